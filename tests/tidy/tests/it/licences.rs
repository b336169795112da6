//! Licences and sources of every dependency of both workspaces, without cargo-deny and without the internet.

use std::fs;

use crate::tree::{list, metadata, none_of, root, text, workspaces};

/// The licences that deny.toml allows.
fn allowed() -> Vec<String> {
    let deny: toml::Table = fs::read_to_string(root().join("deny.toml")).unwrap().parse().unwrap();
    let list = deny.get("licenses").and_then(|l| l.get("allow")).and_then(|a| a.as_array()).unwrap();
    list.iter().filter_map(|l| l.as_str().map(str::to_owned)).collect()
}

/// Whether an SPDX expression can be met with allowed licences. `/` is an old way to write OR.
fn acceptable(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let met = any_of(&words, &mut at, allowed);
    met && at == words.len()
}

/// `A OR B`: binds least.
fn any_of(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = all_of(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        let next = all_of(words, at, allowed);
        met |= next;
    }
    met
}

/// `A AND B`.
fn all_of(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        let next = one(words, at, allowed);
        met &= next;
    }
    met
}

/// A licence, with its exception, or an expression in brackets.
fn one(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let met = any_of(words, at, allowed);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return met && closed;
    }
    let mut name = (*word).to_owned();
    if words.get(*at) == Some(&"WITH") {
        name = format!("{name} WITH {}", words.get(*at + 1).copied().unwrap_or_default());
        *at += 2;
    }
    allowed.contains(&name)
}

#[test]
fn every_dependency_has_a_licence_that_is_allowed() {
    let allowed = allowed();
    let mut found = Vec::new();
    for manifest in workspaces() {
        for package in list(&metadata(&manifest), "packages") {
            let licence = text(package, "license");
            if !acceptable(licence, &allowed) {
                found.push(format!("{} {}: {licence:?}", text(package, "name"), text(package, "version")));
            }
        }
    }
    none_of("packages whose licence deny.toml does not allow", &found);
}

#[test]
fn every_dependency_comes_from_the_registry_or_from_here() {
    let mut found = Vec::new();
    for manifest in workspaces() {
        for package in list(&metadata(&manifest), "packages") {
            let source = text(package, "source");
            let here =
                source.is_empty() && text(package, "manifest_path").starts_with(root().to_str().unwrap());
            if !here && !source.starts_with("registry+") {
                found.push(format!("{} from {source:?}", text(package, "name")));
            }
        }
    }
    none_of("packages from elsewhere", &found);
}

#[test]
fn expressions_are_read_as_spdx_says() {
    let allowed = ["MIT".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT OR GPL-3.0", true),
        ("GPL-3.0/MIT", true),
        ("MIT AND GPL-3.0", false),
        ("(GPL-3.0 OR MIT) AND MIT", true),
        ("(GPL-3.0 OR MIT) AND GPL-2.0", false),
        ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true),
        ("Apache-2.0", false),
        ("(MIT", false),
        ("", false),
    ] {
        assert_eq!(acceptable(expression, &allowed), met, "{expression}");
    }
}
