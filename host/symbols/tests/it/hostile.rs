//! Damaged files: whatever is done to the bytes, the answer is a value or an error, never a panic, and in time.

use trocar_symbols::{Elf, LoadedModule, Point, Resolver};

use crate::compile;

const SOURCE: &str = "
struct Bad {};
int f(int x) { if (x) throw Bad(); return x; }
int main(int argc, char **) { try { return f(argc); } catch (Bad &) { return 1; } }
";

/// Everything that can be asked of a file.
fn use_all(bytes: Vec<u8>) -> bool {
    let Ok(elf) = Elf::parse(bytes) else { return false };
    let image = elf.code_image();
    for (start, end) in image.functions.iter().take(20) {
        let _ = (elf.symbolize(*start), elf.symbolize(*end));
    }
    let _ = (elf.soname(), elf.is_stripped(), elf.build_id());
    let elf = std::sync::Arc::new(elf);
    let module = LoadedModule { name: "m".into(), path: "/m".into(), aliases: Vec::new(), elf, bias: 0x1000 };
    let resolver = Resolver::new(vec![module]);
    for point in ["main", "f*", "no_such_name", "m:0x1040", "0x2040", "main+0x4"] {
        let _ = resolver.resolve(&Point::parse(point).unwrap());
    }
    true
}

/// xorshift64: the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

#[test]
fn cut_files_never_panic() {
    let whole = compile("g++", SOURCE, &["-O1"]);
    for end in (0..whole.len()).step_by(37).chain(0..1024) {
        use_all(whole[..end].to_vec());
    }
    assert!(use_all(whole));
}

#[test]
fn changed_bytes_never_panic() {
    let whole = compile("g++", SOURCE, &["-O1"]);
    let mut numbers = Numbers(0x0123_4567_89ab_cdef);
    let mut parsed = 0;
    for round in 0..4000 {
        let mut bytes = whole.clone();
        // In turn: headers, section headers, anywhere.
        let range = match round % 3 {
            0 => 0..1024,
            1 => bytes.len() - 64 * 32..bytes.len(),
            _ => 0..bytes.len(),
        };
        for _ in 0..1 + numbers.below(8) {
            let at = range.start + numbers.below(range.len());
            match numbers.below(4) {
                0 => bytes[at] ^= 1 << numbers.below(8),
                1 => bytes[at] = 0xff,
                2 => bytes[at] = 0,
                _ => bytes[at] = u8::try_from(numbers.below(256)).unwrap(),
            }
        }
        parsed += u32::from(use_all(bytes));
    }
    assert!(parsed > 1000, "most changes leave a file that is still read: {parsed}");
}

#[test]
fn changed_go_tables_never_panic() {
    // A header with room for functions whose offsets are random.
    let program = compile(
        "cc",
        "int main(void) { return 0; }\n__attribute__((section(\".gopclntab\"))) const char t[8192] = { 0xf0, 0xff, 0xff, 0xff, 0, 0, 1, 8 };",
        &["-O1", "-w"],
    );
    let at = program.windows(8).position(|w| w == [0xf0, 0xff, 0xff, 0xff, 0, 0, 1, 8]).unwrap();
    let mut numbers = Numbers(0xfeed_f00d_1234_5678);
    for _ in 0..2000 {
        let mut bytes = program.clone();
        for word in 0..8 {
            let value =
                if numbers.below(4) == 0 { usize::MAX >> numbers.below(64) } else { numbers.below(8192) };
            bytes[at + 8 + word * 8..][..8].copy_from_slice(&value.to_le_bytes());
        }
        for _ in 0..200 {
            let place = at + 72 + numbers.below(8000);
            bytes[place] = u8::try_from(numbers.below(256)).unwrap();
        }
        assert!(use_all(bytes));
    }
}
