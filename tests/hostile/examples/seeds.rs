//! Writes the modules of the corpus into a folder, for a fuzzer to start from: `seeds FOLDER`.

use trocar_hostile::corpus;

fn main() {
    let folder = std::env::args_os().nth(1).map(std::path::PathBuf::from).expect("a folder");
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    for case in corpus::all() {
        if let Some(wasm) = case.wasm().filter(|wasm| wasm.len() < 4096) {
            std::fs::write(folder.join(&case.name), wasm).expect("the folder can be written");
        }
    }
}
