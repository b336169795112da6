//! A made-up hit: the host calls of the ABI over maps of registers and memory, and an interpreter to run in.

use std::collections::BTreeMap;

use trocar_expr::Compiled;
use wasmi::{Caller, Engine, Extern, Linker, Memory, Module, Store};

/// What a hit sees, and what the probe did.
#[derive(Clone, Debug, Default)]
pub struct Hit {
    pub args: [i64; 9],
    pub regs: BTreeMap<i32, i64>,
    pub ret: i64,
    /// Readable memory: address of the first byte, bytes.
    pub memory: Vec<(i64, Vec<u8>)>,
    pub counters: BTreeMap<(i32, i32), i64>,
    pub keys: BTreeMap<Vec<u8>, i64>,
    pub lines: Vec<(i32, String)>,
    pub reads: usize,
}

impl Hit {
    pub fn with_args(args: &[i64]) -> Self {
        let mut hit = Self::default();
        hit.args[..args.len()].copy_from_slice(args);
        hit
    }

    pub fn with_memory(mut self, at: i64, bytes: &[u8]) -> Self {
        self.memory.push((at, bytes.to_vec()));
        self
    }

    /// The readable bytes from an address on.
    fn at(&self, address: i64) -> Option<&[u8]> {
        self.memory.iter().find_map(|(start, bytes)| {
            let offset = usize::try_from(address.checked_sub(*start)?).ok()?;
            bytes.get(offset..).filter(|rest| !rest.is_empty())
        })
    }

    /// Runs the probe once; the handler's answer.
    pub fn run(&mut self, probe: &Compiled) -> i32 {
        wasmparser::validate(&probe.wasm).expect("a valid module");
        let engine = Engine::default();
        let module = Module::new(&engine, &probe.wasm).unwrap();
        let mut store = Store::new(&engine, std::mem::take(self));
        let instance = linker(&engine).instantiate_and_start(&mut store, &module).unwrap();
        let handler = instance.get_typed_func::<(), i32>(&store, "on_hit").unwrap();
        let answer = handler.call(&mut store, ()).expect("a probe never traps");
        *self = store.into_data();
        answer
    }
}

type Call<'a> = Caller<'a, Hit>;

fn memory(c: &Call<'_>) -> Memory {
    c.get_export("memory").and_then(Extern::into_memory).unwrap()
}

fn bytes(c: &Call<'_>, at: i32, len: i32) -> Vec<u8> {
    let mut out = vec![0; usize::try_from(len).unwrap()];
    memory(c).read(c, usize::try_from(at).unwrap(), &mut out).unwrap();
    out
}

fn linker(engine: &Engine) -> Linker<Hit> {
    let mut l = Linker::new(engine);
    let m = "trocar";
    l.func_wrap(m, "arg", |c: Call<'_>, n: i32| c.data().args[usize::try_from(n).unwrap()]).unwrap();
    l.func_wrap(m, "reg", |c: Call<'_>, n: i32| c.data().regs[&n]).unwrap();
    l.func_wrap(m, "ret", |c: Call<'_>| c.data().ret).unwrap();
    l.func_wrap(m, "tid", |_: Call<'_>| 1234i32).unwrap();
    l.func_wrap(m, "cpu", |_: Call<'_>| 3i32).unwrap();
    l.func_wrap(m, "counter_add", |mut c: Call<'_>, map: i32, entry: i32, by: i64| {
        *c.data_mut().counters.entry((map, entry)).or_default() += by;
    })
    .unwrap();
    l.func_wrap(m, "hash_add", |mut c: Call<'_>, map: i32, at: i32, len: i32, by: i64| -> i32 {
        assert_eq!(map, 0);
        let key = bytes(&c, at, len);
        *c.data_mut().keys.entry(key).or_default() += by;
        0
    })
    .unwrap();
    l.func_wrap(m, "read", |mut c: Call<'_>, address: i64, to: i32, len: i32| -> i32 {
        c.data_mut().reads += 1;
        let len = usize::try_from(len).unwrap();
        let Some(found) = c.data().at(address).and_then(|b| b.get(..len)).map(<[u8]>::to_vec) else {
            return -14;
        };
        memory(&c).write(&mut c, usize::try_from(to).unwrap(), &found).unwrap();
        0
    })
    .unwrap();
    l.func_wrap(m, "read_str", |mut c: Call<'_>, address: i64, to: i32, len: i32| -> i32 {
        c.data_mut().reads += 1;
        let Some(found) = c.data().at(address).map(<[u8]>::to_vec) else { return -14 };
        let len = usize::try_from(len).unwrap().min(found.len());
        let text = found[..len].split(|b| *b == 0).next().unwrap().to_vec();
        memory(&c).write(&mut c, usize::try_from(to).unwrap(), &text).unwrap();
        i32::try_from(text.len()).unwrap()
    })
    .unwrap();
    l.func_wrap(m, "log", |mut c: Call<'_>, level: i32, at: i32, len: i32| {
        let line = String::from_utf8_lossy(&bytes(&c, at, len)).into_owned();
        c.data_mut().lines.push((level, line));
    })
    .unwrap();
    l
}
