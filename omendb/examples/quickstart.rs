//! The quick start: open, write, search, read, open again. Run it with `cargo run --example quickstart`.

use omendb::{Batch, Database, Metric, Schema, SearchOptions};
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "quickstart.omen".to_owned());
    let db = Database::open(&path)?;
    let docs = db.get_or_create_collection("docs", Schema::new(3, Metric::Cosine))?;

    let (en, de) = (json!({"lang": "en", "year": 2020}), json!({"lang": "de"}));
    let batch = Batch::new(["a", "b"].into_iter().collect(), vec![1.0, 0.0, 0.0, 0.6, 0.8, 0.0])
        .with_metadata([Some(&en), Some(&de)])?
        .with_text([Some("crash safe storage"), Some("Vektorsuche")]);
    let written = docs.upsert(batch)?;
    println!("{written} records written; a power cut would not lose them");

    for hit in docs.search(&[0.9, 0.1, 0.0], &SearchOptions::new(2))? {
        let text = hit.text.unwrap_or_default();
        println!("{}  score {:.3}  {}  {text}", hit.id, hit.score, hit.metadata.unwrap_or_default());
    }
    db.close()?;

    let db = Database::open(&path)?;
    let record = db.collection("docs")?.get("b")?.ok_or("record b is gone")?;
    println!("opened again: {} {:?}", record.id, record.vector.to_f32());
    Ok(())
}
