//! `create`: an empty collection, and the database around it.

use crate::failure::Result;
use crate::formats::fields::FieldOptions;
use crate::output::Output;
use crate::target;
use omendb::{Analyzer, Element, Metric, Profile, Quantization, Schema};
use serde_json::json;
use std::path::PathBuf;

/// Make an empty collection, and the database if there is none
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  omendb create library.omen docs --dim 384
  omendb create library.omen images --dim 512 --metric l2 --element f16
  omendb create library.omen small --dim 384 --profile compact
  omendb create library.omen hashes --dim 256 --metric hamming --element bits
  omendb create library.omen papers --dim 384 --vectors title:384 --vectors image:512:dot:i8 --sparse terms")]
pub struct Create {
    /// Directory of the database
    db: PathBuf,
    /// Name of the collection
    collection: String,
    /// Dimensions of its vectors
    #[arg(long)]
    dim: usize,
    /// cosine, l2, dot or hamming
    #[arg(long, default_value = "cosine")]
    metric: Metric,
    /// f32, f16, i8, u8 or bits
    #[arg(long, default_value = "f32")]
    element: Element,
    /// How texts become terms: a language (also with -stop, to leave out its stop words), or plain
    #[arg(long, default_value = "english")]
    analyzer: Analyzer,
    /// How graphs hold vectors: auto, none (no graphs), sq8, rabitq, rabitq1 to rabitq8 (of so many bits), pq
    #[arg(long, default_value = "auto")]
    quantization: Quantization,
    /// default, or compact for less memory
    #[arg(long, default_value = "default")]
    profile: Profile,
    #[command(flatten)]
    fields: FieldOptions,
}

impl Create {
    /// Makes the collection.
    pub fn run(&self) -> Result<Output> {
        let schema = Schema::new(self.dim, self.metric)
            .with_element(self.element)
            .with_quantization(self.quantization)
            .with_profile(self.profile)
            .with_analyzer(self.analyzer);
        let schema = self.fields.add_to(schema)?;
        schema.validate()?;
        let db = target::write_or_create(&self.db)?;
        let fields = schema.fields.len();
        db.create_collection(&self.collection, schema)?;
        db.close()?;
        let text = format!(
            "created {}: {} dimensions, {}, {}, in {}",
            self.collection,
            self.dim,
            self.metric.name(),
            self.element.name(),
            self.db.display()
        );
        let json = json!({
            "database": self.db, "collection": self.collection,
            "dim": self.dim, "metric": self.metric.name(), "element": self.element.name(),
            "analyzer": self.analyzer.to_string(),
            "quantization": self.quantization.name(), "profile": self.profile.name(), "fields": fields,
        });
        Ok(Output::new(text, json))
    }
}
