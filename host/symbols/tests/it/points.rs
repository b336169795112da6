//! What users write, and how it is read: `points.golden`, one line each, `TEXT => READING`.
//!
//! `TROCAR_BLESS=1` rewrites the readings; the texts are kept.

use std::fmt::Write;
use std::path::Path;

use trocar_symbols::{Place, Point, Spot};

fn reading(text: &str) -> String {
    match Point::parse(text) {
        Ok(Point::Place(p)) => place(&p),
        Ok(Point::Return(p)) => format!("exits of {}", place(&p)),
        Ok(Point::Line { file, line }) => format!("line {line} of [{file}]"),
        Ok(Point::Usdt { provider: Some(provider), marker }) => format!("marker [{marker}] of [{provider}]"),
        Ok(Point::Usdt { provider: None, marker }) => format!("marker [{marker}]"),
        Ok(Point::Import { module: Some(module), function }) => {
            format!("import [{function}] from [{module}]")
        }
        Ok(Point::Import { module: None, function }) => format!("import [{function}]"),
        Err(error) => format!("error: {error}; {}", error.hint()),
    }
}

fn place(place: &Place) -> String {
    let mut out = match &place.spot {
        Spot::Name { name, offset: 0 } => format!("name [{name}]"),
        Spot::Name { name, offset } => format!("name [{name}] plus {offset:#x}"),
        Spot::Address(address) => format!("address {address:#x}"),
    };
    if let Some(module) = &place.module {
        write!(out, " in [{module}]").unwrap();
        if matches!(place.spot, Spot::Name { .. }) {
            out += ", unless the whole is a name";
        }
    }
    out
}

#[test]
fn every_text_of_the_table_is_read_as_it_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/points.golden");
    let golden = std::fs::read_to_string(&path).unwrap();
    let texts: Vec<&str> = golden.lines().map(|l| l.split_once(" => ").map_or(l, |(text, _)| text)).collect();
    let now: String = texts.iter().map(|text| format!("{text} => {}\n", reading(text))).collect();
    if std::env::var_os("TROCAR_BLESS").is_some() {
        std::fs::write(&path, &now).unwrap();
        return;
    }
    assert!(texts.len() >= 60, "{}", texts.len());
    for (is, should) in now.lines().zip(golden.lines()) {
        assert_eq!(is, should);
    }
}

#[test]
fn a_point_is_shown_as_it_was_written() {
    for text in [
        "a",
        "m:a",
        "m:0x10",
        "a+0x1c",
        "return:m:a",
        "usdt:p:m",
        "usdt:m",
        "import:l:f",
        "import:f",
        "f.c:12",
        "std::a",
    ] {
        assert_eq!(Point::parse(text).unwrap().to_string(), text);
    }
}
