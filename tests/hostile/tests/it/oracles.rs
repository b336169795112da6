//! The oracles of the fuzz targets, over the corpus and over seeded damage to it: without a fuzzer, in every run.

use trocar_hostile::corpus::all;
use trocar_hostile::generate::{Numbers, changed, damaged, smith};
use trocar_hostile::oracle;
use trocar_test_support::scale::scaled;
use trocar_test_support::target;

fn modules() -> Vec<Vec<u8>> {
    all().iter().filter_map(trocar_hostile::corpus::Case::wasm).collect()
}

/// So many damaged copies of these, each from a number of its own.
fn damage(seeds: &[Vec<u8>], copies: u64, mut check: impl FnMut(Vec<u8>)) {
    assert!(!seeds.is_empty());
    for number in 0..copies {
        let mut numbers = Numbers::new(number);
        let seed = seeds.get(numbers.below(seeds.len())).unwrap();
        check(damaged(seed.clone(), &mut numbers));
    }
}

#[test]
fn damaged_modules_are_accepted_or_refused() {
    let modules = modules();
    let accepted = modules.iter().filter(|m| oracle::verify(m).is_some()).count();
    assert!(accepted > 150 && accepted < modules.len() - 50, "{accepted} of {}", modules.len());
    // Those of ordinary size: most of the corpus, and thousands of them a second.
    let small: Vec<Vec<u8>> = modules.into_iter().filter(|m| m.len() < 4096).collect();
    damage(&small, scaled(2_000_000), |bytes| drop(oracle::verify(&bytes)));
}

#[test]
fn what_the_gate_accepts_keeps_its_bounds_when_it_runs() {
    let modules: Vec<Vec<u8>> = modules().into_iter().filter(|m| m.len() < 4096).collect();
    let hits: usize = modules.iter().map(|m| oracle::run(m).len()).sum();
    assert!(hits > 600, "{hits}");
    for number in 0..scaled(5_000) {
        let mut numbers = Numbers::new(number);
        let from = modules.get(numbers.below(modules.len())).unwrap().clone();
        oracle::run(&changed(from, &mut numbers));
    }
}

#[test]
fn generated_modules_keep_their_bounds_when_they_run() {
    let mut ran = 0;
    for number in 0..scaled(5_000) {
        let wasm = smith(&Numbers::new(number).bytes(2048)).unwrap();
        ran += usize::from(!oracle::run(&wasm).is_empty());
    }
    assert!(ran > 10, "{ran} could be run");
}

#[test]
fn shared_memory_of_any_content_is_read_within_bounds() {
    for number in 0..scaled(500_000) {
        let mut numbers = Numbers::new(number);
        let len = 1 + numbers.below(700);
        oracle::shared(&numbers.bytes(len));
    }
    // Words that could be right: small numbers and sizes, where arbitrary bytes are rejected at once.
    for number in 0..scaled(500_000) {
        let mut numbers = Numbers::new(number);
        let mut word = |_| (numbers.draw() >> (numbers.draw() % 64)).to_le_bytes();
        let bytes: Vec<u8> = (0..97).flat_map(&mut word).collect();
        oracle::shared(&bytes);
    }
}

#[test]
fn damaged_manifests_are_read_as_they_were_written_or_refused() {
    let json = br#"{"abi":1,"name":"p","version":"1.2","description":"d","handlers":[{"name":"on_hit","points":["a:b"]}],
        "params":[{"name":"n","type":"int","default":-7},{"name":"s","type":"str","default":"x"}],
        "maps":[{"name":"c","kind":"counter","entries":3,"labels":["l"]},{"name":"h","kind":"hist","precision":3},
        {"name":"t","kind":"hash","entries":9,"key":[{"name":"k","type":"str","bytes":8},{"name":"f","type":"f64"}]}],
        "events":[{"name":"e","fields":[{"name":"a","type":"hex64"}]}],"limits":{"fuel":5,"memory_bytes":65536}}"#;
    let toml = b"abi=1\nname='p'\nparams=[{name='n',type='int',default=9}]\n[[maps]]\nname='m'\nkind='hash'\nkey=[{name='k',type='u16'}]\n[limits]\nfuel=3\n";
    oracle::manifest(json);
    oracle::manifest(toml);
    damage(&[json.to_vec(), toml.to_vec()], scaled(500_000), |bytes| oracle::manifest(&bytes));
}

#[test]
fn damaged_executables_never_panic() {
    let files: Vec<Vec<u8>> =
        ["server", "throw", "narrow", "redzone"].map(|n| std::fs::read(target::path(n)).unwrap()).to_vec();
    assert_eq!(files.iter().filter(|f| oracle::elf(f)).count(), 3, "one is of 32 bits");
    let mut read = 0u64;
    damage(&files, scaled(20_000), |bytes| read += u64::from(oracle::elf(&bytes)));
    assert!(read > 100, "most changes leave a file that is still read: {read}");
}

#[test]
fn damaged_expressions_become_probes_that_the_gate_accepts_or_are_refused_in_place() {
    let texts = [
        "$arg0 + *(u32*)($arg1 + 16) * 3 == -1 && str($arg2, 7) != \"get\\n\"",
        "u(*(i64*)$reg.rdi) >> 3 | ~$ret & 0xff < 'a'",
        "user={str($arg0)} n={*(u8*)($arg1)} x={$arg2 % 7} {{literal}}",
        "buf($arg0, 16) ^ !($arg3 <= -9223372036854775808)",
        "time_ns() - $tid / $cpu",
    ];
    let seeds: Vec<Vec<u8>> = texts.iter().map(|t| t.as_bytes().to_vec()).collect();
    assert!(seeds.iter().map(|s| oracle::expression(s)).sum::<usize>() >= 3);
    let mut probes = 0;
    damage(&seeds, scaled(500_000), |bytes| probes += oracle::expression(&bytes));
    assert!(probes > 500, "{probes}");
}
