//! Codes that graphs hold of each row beside the neighbours' numbers, where these are not the 8-bit codes of the build.

use super::ScalarQuantizer;
use super::bits::{BitCoder, BitQuery};
use super::product::{ProductCoder, ProductQuery};

/// Which codes a graph holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Coding {
    /// 8-bit codes, or those of the neighbours in each node.
    #[default]
    Plain,
    /// RaBitQ, of so many bits a dimension, 1 to 8. Where rows cannot be turned, 8-bit codes.
    Bits(u8),
    /// Product quantisation: a byte for every four dimensions. For Euclidean distances; else 8-bit codes.
    Product,
}

/// Makes and compares such codes.
#[derive(Debug, Clone, PartialEq)]
pub enum Coder {
    Bits(BitCoder),
    Product(ProductCoder),
}

/// A query as the coder compares it.
#[derive(Debug, Default)]
pub struct CoderQuery {
    bits: BitQuery,
    product: ProductQuery,
}

impl Coder {
    /// Its number in a graph's header.
    pub fn tag(&self) -> u8 {
        match self {
            Coder::Bits(coder) => coder.bits as u8,
            Coder::Product(_) => PRODUCT,
        }
    }

    /// Bytes of a code.
    pub fn bytes(&self) -> usize {
        match self {
            Coder::Bits(coder) => coder.bytes(),
            Coder::Product(coder) => coder.bytes(),
        }
    }

    /// The values that a stored graph needs to make the coder again.
    pub fn centroids(&self) -> &[f32] {
        match self {
            Coder::Bits(_) => &[],
            Coder::Product(coder) => coder.centroids(),
        }
    }

    /// The coder of a stored graph; `None` where tag, sizes and quantiser contradict each other.
    pub fn of(tag: u8, quantizer: &ScalarQuantizer, centroids: &[f32]) -> Option<Self> {
        match tag {
            1..=8 if quantizer.turn.is_some() => {
                Some(Coder::Bits(BitCoder { bits: tag.into(), width: quantizer.width() }))
            }
            PRODUCT => ProductCoder::new(quantizer.dims(), centroids.to_vec()).map(Coder::Product),
            _ => None,
        }
    }

    /// Values of the centroids that a graph with this tag stores.
    pub fn centroids_of(tag: u8, dims: usize) -> usize {
        if tag == PRODUCT { ProductCoder::centroids_of(dims) } else { 0 }
    }

    /// Writes the code of a stored row.
    pub fn encode(&self, quantizer: &ScalarQuantizer, row: &[u8], space: &mut CodingSpace, code: &mut [u8]) {
        match self {
            Coder::Bits(coder) => coder.encode(space.place(quantizer, row), code),
            Coder::Product(coder) => {
                quantizer.prepare(row, &mut space.values);
                coder.encode(&space.values, code);
            }
        }
    }

    /// Prepares a query, which is encoded like a stored row.
    pub fn prepare(&self, quantizer: &ScalarQuantizer, row: &[u8], space: &mut CodingSpace, query: &mut CoderQuery) {
        match self {
            Coder::Bits(coder) => coder.prepare(space.place(quantizer, row), &mut query.bits),
            Coder::Product(coder) => {
                quantizer.prepare(row, &mut space.values);
                coder.prepare(&space.values, &mut query.product);
            }
        }
    }

    /// Estimates the squared distances of the codes numbered `ids` in `base`.
    pub fn distances(&self, query: &CoderQuery, base: &[u8], ids: &[u32], out: &mut Vec<f32>) {
        match self {
            Coder::Bits(coder) => coder.distances(&query.bits, base, ids, out),
            Coder::Product(coder) => coder.distances(&query.product, base, ids, out),
        }
    }

    /// Found rows to compare exactly beyond those asked for: the shorter the codes, the more.
    pub fn rerank(&self) -> usize {
        match self {
            Coder::Bits(coder) => [512, 192, 64, 32, 16, 16, 16, 16][(coder.bits - 1).min(7)],
            Coder::Product(_) => 128,
        }
    }

    /// The share of a squared distance by which estimates of near rows may well differ.
    pub fn doubt(&self) -> f32 {
        match self {
            Coder::Bits(coder) => 0.5 / (1u32 << (coder.bits - 1)) as f32,
            Coder::Product(_) => 0.5,
        }
    }
}

const PRODUCT: u8 = 9;

/// Buffers of encoding.
#[derive(Debug, Default)]
pub struct CodingSpace {
    values: Vec<f32>,
    placed: Vec<f32>,
}

impl CodingSpace {
    fn place(&mut self, quantizer: &ScalarQuantizer, row: &[u8]) -> &[f32] {
        self.placed.resize(quantizer.width(), 0.0);
        quantizer.place_query(row, &mut self.values, &mut self.placed);
        &self.placed
    }
}
