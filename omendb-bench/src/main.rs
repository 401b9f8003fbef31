//! Measurements of the library: `omendb-bench <name> [arguments]`.

mod filter;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("filter") => filter::run(&arguments[1..]),
        _ => eprintln!("usage: omendb-bench filter [rows]"),
    }
}
