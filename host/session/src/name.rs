//! Readable ids: an adjective and a bird.

const COLOURS: [&str; 32] = [
    "amber", "ashen", "azure", "brave", "brisk", "calm", "clear", "coral", "crisp", "dusky", "eager",
    "early", "fleet", "frosty", "gentle", "golden", "hazel", "ivory", "jade", "keen", "lively", "lunar",
    "mellow", "misty", "noble", "ochre", "quiet", "rapid", "rusty", "silver", "solar", "vivid",
];
const BIRDS: [&str; 32] = [
    "avocet", "bittern", "bunting", "crane", "curlew", "dipper", "dunlin", "egret", "eider", "falcon",
    "finch", "gannet", "godwit", "grebe", "harrier", "heron", "hoopoe", "ibis", "kestrel", "lapwing",
    "linnet", "merlin", "osprey", "pipit", "plover", "puffin", "redstart", "siskin", "swift", "teal", "tern",
    "wren",
];

/// A new id. `hash` makes it; equal ids on one machine are harmless, they only name a session to people.
pub(crate) fn session_name(pid: i32) -> String {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(pid);
    let pick = |words: &[&'static str], bits: u64| {
        let index = usize::try_from(bits % words.len() as u64).unwrap_or(0);
        words.get(index).copied().unwrap_or("trocar")
    };
    format!("{}-{}", pick(&COLOURS, random), pick(&BIRDS, random >> 32))
}
