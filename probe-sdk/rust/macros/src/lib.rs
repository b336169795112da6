//! The attribute `#[probe]`: it exports a function as a handler and writes it into the manifest.
//!
//! It reads the few tokens that it needs by hand, so that a probe builds without any other crate. What it makes
//! relies on `trocar_probe_sdk::Outcome` and `trocar_probe_sdk::manifest`. It does not know the rest of the manifest:
//! that is the macro `manifest!`.

use proc_macro::{Delimiter, Spacing, TokenStream, TokenTree};

/// Makes a function a handler of the probe.
///
/// The function takes nothing and returns nothing, `bool` or `i32`; `false` and `0` say that the probe's condition
/// did not hold at this hit. Its name is the name of the handler.
///
/// ```text
/// #[probe]                                        it goes where --at says
/// #[probe(at = "redis-server:processCommand")]    … or here, if nothing is said
/// #[probe(at = ["malloc", "calloc"])]             … or at each of these
/// fn on_hit() { … }
/// ```
#[proc_macro_attribute]
pub fn probe(options: TokenStream, function: TokenStream) -> TokenStream {
    match expand(options, function.clone()) {
        Ok(handler) => {
            let mut all = function;
            all.extend(handler);
            all
        }
        Err(message) => {
            let mut all = function;
            all.extend(code(&format!("::core::compile_error!({message:?});")));
            all
        }
    }
}

/// The exported function and the section for a handler.
fn expand(options: TokenStream, function: TokenStream) -> Result<TokenStream, String> {
    let points = points(options)?;
    let Signature { name, returns } = signature(function)?;
    let exported = name.strip_prefix("r#").unwrap_or(&name);
    let (result, call) = if returns {
        ("-> i32", format!("::trocar_probe_sdk::Outcome::number({name}())"))
    } else {
        ("", format!("{name}()"))
    };
    Ok(code(&format!(
        "const _: () = {{
            #[unsafe(export_name = \"{exported}\")]
            extern \"C\" fn handler() {result} {{ {call} }}
            const JSON: ::trocar_probe_sdk::manifest::Json =
                ::trocar_probe_sdk::manifest::handler(\"{exported}\", &[{points}]);
            #[cfg(target_arch = \"wasm32\")]
            #[unsafe(link_section = \"trocar.manifest\")]
            static SECTION: [u8; JSON.len()] = JSON.bytes();
        }};"
    )))
}

/// Code that this file writes, as tokens.
fn code(text: &str) -> TokenStream {
    text.parse().unwrap_or_else(|e| panic!("#[probe] wrote what is not Rust, please report it: {e}"))
}

const USAGE: &str = "write #[probe], #[probe(at = \"POINT\")] or #[probe(at = [\"POINT\", \"POINT\"])]";

/// The points of `at = …` as literals with commas between.
fn points(options: TokenStream) -> Result<String, String> {
    let mut tokens = options.into_iter();
    let Some(first) = tokens.next() else { return Ok(String::new()) };
    let is_at = matches!(&first, TokenTree::Ident(i) if i.to_string() == "at");
    let is_equal = matches!(tokens.next(), Some(TokenTree::Punct(p)) if p.as_char() == '=');
    let value = tokens.next();
    let (true, true, Some(value), None) = (is_at, is_equal, value, tokens.next()) else {
        return Err(USAGE.into());
    };
    let list = match value {
        TokenTree::Literal(one) => vec![TokenTree::Literal(one)],
        TokenTree::Group(many) if many.delimiter() == Delimiter::Bracket => {
            many.stream().into_iter().collect()
        }
        _ => return Err(USAGE.into()),
    };
    let mut points = Vec::new();
    for (i, token) in list.into_iter().enumerate() {
        match token {
            TokenTree::Literal(point) if i % 2 == 0 && is_text(&point.to_string()) => {
                points.push(point.to_string())
            }
            TokenTree::Punct(comma) if i % 2 == 1 && comma.as_char() == ',' => {}
            _ => return Err(USAGE.into()),
        }
    }
    Ok(points.join(", "))
}

fn is_text(literal: &str) -> bool {
    literal.starts_with('"') || literal.starts_with("r\"") || literal.starts_with("r#")
}

struct Signature {
    name: String,
    returns: bool,
}

/// Name of the function, and whether it returns anything.
fn signature(function: TokenStream) -> Result<Signature, String> {
    let no_function = || "#[probe] belongs on a function".to_owned();
    let mut tokens = function.into_iter();
    tokens
        .by_ref()
        .find(|t| matches!(t, TokenTree::Ident(i) if i.to_string() == "fn"))
        .ok_or_else(no_function)?;
    let Some(TokenTree::Ident(name)) = tokens.next() else { return Err(no_function()) };
    match tokens.next() {
        Some(TokenTree::Group(g)) if g.delimiter() == Delimiter::Parenthesis && g.stream().is_empty() => {}
        _ => return Err("a handler takes nothing: it asks for arguments with `arg(n)`".into()),
    }
    let returns = matches!(tokens.next(), Some(TokenTree::Punct(p)) if p.as_char() == '-' && p.spacing() == Spacing::Joint);
    Ok(Signature { name: name.to_string(), returns })
}
