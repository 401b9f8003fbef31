//! `search`: the best records for a vector, a record, a text, or a vector and a text together.

use crate::failure::{Failure, Result, invalid};
use crate::formats::fields::{FIELDS_NAME, fields_json, parse_sparse};
use crate::formats::{self, Columns, IdType, text::parse_vector};
use crate::output::{self, Output, id_json, shorten, shortest, vector_json};
use crate::target::{self, Target};
use omendb::{
    Collection, Element, Error, Explanation, FieldKind, Fuse, Groups, Hit, Hits, Id, Include, SearchOptions, Sparse,
    Vectors,
};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Find the nearest records to a vector or to a record, by words of their texts, or by both
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  omendb search library.omen --like king
  omendb search library.omen -c docs --vector '[0.1, 0.2, 0.3]' -k 5
  omendb search library.omen --vector-file queries.npy --row 17 --min-score 0.5
  omendb search library.omen --like king -k 20 --offset 20 --json
  omendb search library.omen --text 'crash \"safe storage\" -demo'
  omendb search library.omen --like king --text 'royal*' --fuse weighted --alpha 0.3
  omendb search library.omen --like king --filter \"pos = 'noun' AND year >= 2020\"
  omendb search library.omen --like king --filter '{\"pos\": \"noun\", \"year\": {\"$gte\": 2020}}'
  omendb search library.omen --like king --max-distance 0.4 -k 1000
  omendb search library.omen --like king --group-by pos --per-group 3
  omendb search library.omen --like king --mmr 0.5 --explain
  omendb search library.omen --vector '[0.1, 0.2]' --using title
  omendb search library.omen --sparse '{\"12\": 0.5, \"7\": 1}' --text 'crash safe'

Scores are higher-is-better for every metric: cosine similarity, dot product, or the negative distance; BM25 of a text;
and 0 to 1 for both together. A text is words (any of them), \"phrases\", prefix*, fuzzy~, +must, -must_not, AND, OR, NOT
and parentheses.
The vector of a collection of bits is given as its bytes.")]
pub struct Search {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    query: Query,
    /// How many records
    #[arg(short, default_value_t = 10)]
    k: usize,
    /// How many of the nearest to pass over
    #[arg(long, default_value_t = 0)]
    offset: usize,
    /// Only records with at least this score
    #[arg(long, allow_negative_numbers = true)]
    min_score: Option<f32>,
    /// Only records whose metadata passes: an SQL-style condition or a JSON object
    #[arg(long, value_name = "CONDITION")]
    filter: Option<String>,
    /// Words to search for in the texts
    #[arg(
        long,
        value_name = "WORDS",
        allow_hyphen_values = true,
        required_unless_present_any = ["vector", "vector_file", "like", "sparse"]
    )]
    #[arg(conflicts_with_all = ["group_by", "explain", "mmr"])]
    text: Option<String>,
    /// How the orders by vector and by text become one
    #[arg(long, value_name = "HOW", default_value = "rrf", value_parser = ["rrf", "adaptive", "weighted"])]
    fuse: String,
    /// Weight of the vector in --fuse weighted, 0 to 1 [default: 0.5]
    #[arg(long, value_name = "WEIGHT")]
    alpha: Option<f32>,
    /// A sparse vector to search by: an object of weights by id
    #[arg(long, value_name = "JSON", conflicts_with_all = ["group_by", "mmr"])]
    sparse: Option<String>,
    /// The field of --sparse; may be left out where the collection has exactly one
    #[arg(long, value_name = "FIELD", requires = "sparse")]
    sparse_field: Option<String>,
    /// Compare the vectors of this further field instead of the records' own
    #[arg(long, value_name = "FIELD")]
    using: Option<String>,
    /// Only records within this distance: all of them, up to -k
    #[arg(long, value_name = "DISTANCE", allow_negative_numbers = true)]
    max_distance: Option<f32>,
    /// Choose records that differ: 1 the nearest, 0 as different from each other as can be
    #[arg(long, value_name = "LAMBDA", conflicts_with_all = ["group_by"])]
    mmr: Option<f32>,
    /// The best records of each value of a field, for the -k best values
    #[arg(long, value_name = "FIELD", conflicts_with_all = ["offset", "explain"])]
    group_by: Option<String>,
    /// Records of each group
    #[arg(long, default_value_t = 3, requires = "group_by")]
    per_group: usize,
    /// The share of the true nearest to find, 0.5 to 1; 1 compares every record [default: 0.95]
    #[arg(long)]
    recall: Option<f32>,
    /// Tell how the search was carried out, too
    #[arg(long)]
    explain: bool,
    /// Show the vectors, too
    #[arg(long)]
    with_vector: bool,
    /// Take the id of --like as an integer or as a string
    #[arg(long, value_name = "TYPE")]
    id_type: Option<IdType>,
    /// Row of --vector-file, from 0
    #[arg(long, default_value_t = 0, requires = "vector_file")]
    row: u64,
}

#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct Query {
    /// A vector: numbers between brackets
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    vector: Option<String>,
    /// A file with a vector: a list of numbers in a .json or .txt file, or any file that can be imported
    #[arg(long, value_name = "FILE")]
    vector_file: Option<PathBuf>,
    /// The id of a record; it is left out of the results itself
    #[arg(long, value_name = "ID")]
    like: Option<String>,
}

impl Search {
    /// Searches.
    pub fn run(&self) -> Result<Output> {
        if self.text.is_none() && self.sparse.is_none() && (self.alpha.is_some() || self.fuse != "rrf") {
            return Err(Failure::Usage("--fuse and --alpha go with --text or --sparse".to_owned()));
        }
        let db = target::read(&self.target.db)?;
        let collection = self.target.collection(&db)?;
        let (vector, itself) = self.query(&collection)?;
        let mut options = self.options()?;
        options.exclude.extend(itself);
        let start = Instant::now();
        if let Some(sparse) = self.sparse(&collection)? {
            return self.by_sparse(&collection, vector, sparse, &options);
        }
        let Some(vector) = vector else {
            let text = self.text.as_deref().unwrap_or_default();
            let hits = collection.search_text(text, &options)?;
            return Ok(render(&hits, self.offset, start.elapsed().as_micros() as u64));
        };
        if let Some(field) = &self.group_by {
            let found = collection.search_groups(vector, field, self.per_group, &options)?;
            return Ok(render_groups(&found, start.elapsed().as_micros() as u64));
        }
        if self.explain {
            let told = collection.explain(vector, &options)?;
            let mut output = render(&told.hits, self.offset, told.micros);
            output.text = format!("{}\n\n{}", output.text, plan(&told));
            output.json["explain"] = json!(told);
            return Ok(output);
        }
        let hits = match &self.text {
            None => collection.search(vector, &options)?,
            Some(text) => collection.search_hybrid(vector, text, &options)?,
        };
        Ok(render(&hits, self.offset, start.elapsed().as_micros() as u64))
    }

    /// The sparse vector to search by, and its field.
    fn sparse(&self, collection: &Collection) -> Result<Option<(String, Sparse)>> {
        let Some(text) = &self.sparse else { return Ok(None) };
        let value = parse_sparse(text).map_err(|what| invalid(format!("--sparse: {what}")))?;
        let sparse = collection.schema().fields.iter().filter(|field| field.kind == FieldKind::Sparse);
        let names: Vec<&String> = sparse.map(|field| &field.name).collect();
        match (&self.sparse_field, &names[..]) {
            (Some(name), _) => Ok(Some((name.clone(), value))),
            (None, [only]) => Ok(Some(((*only).clone(), value))),
            (None, _) => Err(invalid(format!(
                "{} has {} sparse fields {names:?}; say which with --sparse-field",
                collection.name(),
                names.len()
            ))),
        }
    }

    fn by_sparse(
        &self,
        collection: &Collection,
        vector: Option<Vectors<'static>>,
        (field, value): (String, Sparse),
        options: &SearchOptions,
    ) -> Result<Output> {
        let start = Instant::now();
        let alone = vector.is_none() && self.text.is_none();
        if self.explain && alone {
            let told = collection.explain_sparse(&field, &value, options)?;
            let mut output = render(&told.hits, self.offset, told.micros);
            output.text = format!("{}\n\n{}", output.text, plan(&told));
            output.json["explain"] = json!(told);
            return Ok(output);
        }
        if self.explain {
            return Err(invalid("--explain tells of one search alone; leave out --sparse or the rest"));
        }
        let hits = if alone {
            collection.search_sparse(&field, &value, options)?
        } else {
            let query = omendb::Query::new().sparse(field, value);
            let query = vector.map_or(query.clone(), |vector| query.vector(vector));
            let query = self.text.as_deref().map_or(query.clone(), |text| query.text(text));
            collection.search_fused(query, options)?
        };
        Ok(render(&hits, self.offset, start.elapsed().as_micros() as u64))
    }

    fn options(&self) -> Result<SearchOptions> {
        let (vector, snippet) = (self.with_vector, self.text.is_some());
        let include = Include { vector, snippet, fields: vector, ..Include::default() };
        let mut options = SearchOptions::new(self.k).offset(self.offset).include(include);
        if let Some(radius) = self.max_distance {
            options = options.max_distance(radius);
        }
        if let Some(field) = &self.using {
            options = options.using(field);
        }
        if let Some(recall) = self.recall {
            options = options.recall(recall);
        }
        if let Some(score) = self.min_score {
            options = options.min_score(score);
        }
        if let Some(lambda) = self.mmr {
            options = options.mmr(lambda);
        }
        if let Some(filter) = &self.filter {
            options = options.filter(target::filter(filter)?);
        }
        Ok(options.fuse(Fuse::named(&self.fuse, self.alpha)?))
    }

    fn query(&self, collection: &Collection) -> Result<(Option<Vectors<'static>>, Option<Id>)> {
        if let Some(word) = &self.query.like {
            let record = target::find(collection, word, self.id_type)?.ok_or_else(|| {
                Failure::Engine(Error::NotFound(format!(
                    "no record {word} in {}; --like takes the id of a record",
                    collection.name()
                )))
            })?;
            let lacking =
                |name: &String| Failure::Engine(Error::NotFound(format!("record {word} has no vector {name:?}")));
            let vector = match &self.using {
                None => &record.vector,
                Some(name) => record.vectors.get(name).ok_or_else(|| lacking(name))?,
            };
            return Ok((Some(owned(Vectors::from(vector))), Some(record.id)));
        }
        if let Some(text) = &self.query.vector {
            return Ok((Some(self.parse("--vector", text, collection)?), None));
        }
        let Some(path) = self.query.vector_file.as_deref() else { return Ok((None, None)) };
        match path.extension().and_then(|e| e.to_str()) {
            Some("json" | "txt") => {
                let text = std::fs::read_to_string(path).map_err(|e| crate::failure::io("read", path, &e))?;
                Ok((Some(self.parse(&path.display().to_string(), &text, collection)?), None))
            }
            _ => Ok((Some(self.read_row(path, collection)?), None)),
        }
    }

    fn parse(&self, place: &str, text: &str, collection: &Collection) -> Result<Vectors<'static>> {
        let mut vector = Vec::new();
        parse_vector(text, &mut vector)
            .map_err(|what| invalid(format!("{place}: {what}; give a list such as [0.1, 0.2]")))?;
        let schema = collection.schema();
        let searched = self.using.as_ref().map(|name| schema.of_field(name)).transpose()?;
        if searched.as_ref().unwrap_or(schema).element != Element::Bits {
            return Ok(Vectors::F32(Cow::Owned(vector)));
        }
        let bytes: Option<Vec<u8>> = vector.iter().map(|x| Some(*x as u8).filter(|b| f32::from(*b) == *x)).collect();
        let bytes = bytes
            .ok_or_else(|| invalid(format!("{place}: bits are given as bytes, 0 to 255, eight dimensions each")))?;
        Ok(Vectors::Bits(Cow::Owned(bytes)))
    }

    fn read_row(&self, path: &Path, collection: &Collection) -> Result<Vectors<'static>> {
        let mut source = formats::open(path, None, &Columns::default())?;
        let dim = source.dim();
        source.skip(self.row)?;
        let Some(block) = source.next_block()? else {
            return Err(invalid(format!("{}: no row {}; rows are counted from 0", path.display(), self.row)));
        };
        Ok(match block.vectors {
            Vectors::F32(v) => Vectors::F32(Cow::Owned(v[..dim].to_vec())),
            Vectors::F16(v) => Vectors::F16(Cow::Owned(v[..dim].to_vec())),
            Vectors::I8(v) => Vectors::I8(Cow::Owned(v[..dim].to_vec())),
            Vectors::U8(v) if collection.schema().element == Element::Bits => {
                Vectors::Bits(Cow::Owned(v[..dim].to_vec()))
            }
            Vectors::U8(v) => Vectors::U8(Cow::Owned(v[..dim].to_vec())),
            Vectors::Bits(v) => Vectors::Bits(Cow::Owned(v[..dim.div_ceil(8)].to_vec())),
        })
    }
}

fn owned(vectors: Vectors<'_>) -> Vectors<'static> {
    match vectors {
        Vectors::F32(v) => Vectors::F32(Cow::Owned(v.into_owned())),
        Vectors::F16(v) => Vectors::F16(Cow::Owned(v.into_owned())),
        Vectors::I8(v) => Vectors::I8(Cow::Owned(v.into_owned())),
        Vectors::U8(v) => Vectors::U8(Cow::Owned(v.into_owned())),
        Vectors::Bits(v) => Vectors::Bits(Cow::Owned(v.into_owned())),
    }
}

/// Hits as a table and as JSON.
pub fn render(hits: &Hits, offset: usize, micros: u64) -> Output {
    let shows_text = hits.iter().any(|h| h.text.is_some());
    let shows_metadata = hits.iter().any(|h| h.metadata.is_some());
    let mut header = vec!["#", "id", "score"];
    header.extend(shows_text.then_some("text"));
    header.extend(shows_metadata.then_some("metadata"));
    let mut table = output::table(&header);
    for (i, hit) in hits.iter().enumerate() {
        let mut row = vec![(offset + i + 1).to_string(), shorten(&hit.id.to_string(), 40), format!("{:.4}", hit.score)];
        if shows_text {
            let piece = hit.snippet.as_ref().map(|snippet| snippet.marked("[", "]"));
            row.push(shorten(piece.as_deref().or(hit.text.as_deref()).unwrap_or(""), 90));
        }
        if shows_metadata {
            row.push(hit.metadata.as_ref().map_or(String::new(), |m| shorten(&m.to_string(), 60)));
        }
        table.add_row(row);
    }
    let found = if hits.is_empty() { "nothing found".to_owned() } else { plural(hits.len(), "record") };
    let text = if hits.is_empty() { found } else { format!("{table}\n{found} in {:.2} ms", micros as f64 / 1000.0) };
    let list: Vec<Value> = hits.iter().map(hit_json).collect();
    Output::new(text, json!({"hits": list, "complete": hits.complete, "took_us": micros}))
}

/// Groups as a table and as JSON.
fn render_groups(found: &Groups, micros: u64) -> Output {
    let mut table = output::table(&["group", "#", "id", "score", "text"]);
    for group in &found.groups {
        for (i, hit) in group.hits.iter().enumerate() {
            let name = if i == 0 { shorten(&group.value.to_string(), 40) } else { String::new() };
            let text = shorten(hit.text.as_deref().unwrap_or(""), 90);
            let id = shorten(&hit.id.to_string(), 40);
            table.add_row(vec![name, (i + 1).to_string(), id, format!("{:.4}", hit.score), text]);
        }
    }
    let groups = found.groups.len();
    let text = match groups {
        0 => "nothing found".to_owned(),
        _ => format!("{table}\n{} in {:.2} ms", plural(groups, "group"), micros as f64 / 1000.0),
    };
    let list = found.groups.iter().map(|group| {
        let hits: Vec<Value> = group.hits.iter().map(hit_json).collect();
        json!({"value": group.value, "hits": hits, "complete": group.hits.complete})
    });
    let list: Vec<Value> = list.collect();
    Output::new(text, json!({"groups": list, "complete": found.complete, "took_us": micros}))
}

/// How a search was carried out, as a table.
fn plan(told: &Explanation) -> String {
    let or_dash = |n: Option<String>| n.unwrap_or_else(|| "-".into());
    let mut table =
        output::table(&["part", "records", "matching", "plan", "visited", "distances", "recall", "us", "because"]);
    for part in &told.parts {
        table.add_row(vec![
            part.segment.map_or_else(|| "memory".to_owned(), |id| format!("segment {id}")),
            output::count(part.rows),
            or_dash(part.matching.map(output::count)),
            part.plan.name().to_owned(),
            output::count(part.rows_visited),
            output::count(part.distances),
            or_dash(part.estimated_recall.map(|recall| format!("{recall:.3}"))),
            output::count(part.micros),
            part.reason.unwrap_or("").to_owned(),
        ]);
    }
    let recall = or_dash(told.estimated_recall.map(|recall| format!("{recall:.3}")));
    format!(
        "{table}\n{} records visited, {} distances, estimated recall {recall}, {} us",
        output::count(told.rows_visited),
        output::count(told.distances),
        output::count(told.micros)
    )
}

fn plural(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn hit_json(hit: &Hit) -> Value {
    let mut map = Map::new();
    map.insert("id".into(), id_json(&hit.id));
    map.insert("score".into(), shortest(hit.score));
    map.insert("distance".into(), shortest(hit.distance));
    // Of a search by vector alone it is the score.
    let vector_score = hit.vector_score.filter(|score| *score != hit.score);
    map.extend(vector_score.map(|score| ("vector_score".into(), shortest(score))));
    map.extend(hit.text_score.map(|score| ("text_score".into(), shortest(score))));
    if !hit.field_scores.is_empty() {
        let scores = hit.field_scores.iter().map(|(name, score)| (name.clone(), shortest(*score)));
        map.insert("field_scores".into(), Value::Object(scores.collect()));
    }
    if let Some(snippet) = &hit.snippet {
        let highlights: Vec<_> = snippet.highlights.iter().map(|range| [range.start, range.end]).collect();
        map.insert("snippet".into(), json!({"text": snippet.text, "start": snippet.start, "highlights": highlights}));
    }
    if let Some(vector) = &hit.vector {
        map.insert("vector".into(), vector_json(vector));
    }
    if let Some(metadata) = &hit.metadata {
        map.insert("metadata".into(), metadata.clone());
    }
    if let Some(text) = &hit.text {
        map.insert("text".into(), json!(text));
    }
    if let Some(fields) = fields_json(&hit.vectors, &hit.sparse) {
        map.insert(FIELDS_NAME.into(), fields);
    }
    Value::Object(map)
}
