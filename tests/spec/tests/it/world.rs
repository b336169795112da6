//! An engine with everything that a script has made in it: instances by name, and the module that every script may
//! import. There are two: wasmtime as it comes, and the target's.
#![expect(unsafe_code, reason = "code that was compiled is loaded, as the agent loads it")]

use std::collections::HashMap;

use wasmtime::{
    Config, Engine, Error, Func, FuncType, Global, GlobalType, Instance, Linker, Memory, MemoryType, Module,
    Mutability, Ref, RefType, Store, Table, TableType, Trap, Val, ValType,
};

/// Fuel of a whole script: no test is about it.
const PLENTY: u64 = 1 << 60;

/// How something ended.
#[derive(Debug)]
pub enum End {
    /// With these values.
    Values(Vec<Val>),
    /// In a trap.
    Trapped(Trap),
    /// Imports do not fit.
    Unlinkable,
    /// The script asks for something that is not there.
    Missing,
}

impl End {
    fn of(error: &Error) -> Self {
        error.downcast_ref::<Trap>().map_or(Self::Unlinkable, |trap| Self::Trapped(*trap))
    }

    /// The same end. NaNs are one value: which of them comes out is left open by the standard, and the two worlds use
    /// different instructions (the target's knows nothing of AVX).
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Values(a), Self::Values(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b))
            }
            (Self::Trapped(a), Self::Trapped(b)) => a == b,
            (Self::Unlinkable, Self::Unlinkable) | (Self::Missing, Self::Missing) => true,
            _ => false,
        }
    }
}

fn same_value(a: &Val, b: &Val) -> bool {
    match (a, b) {
        (Val::I32(a), Val::I32(b)) => a == b,
        (Val::I64(a), Val::I64(b)) => a == b,
        (Val::F32(a), Val::F32(b)) => a == b || f32::from_bits(*a).is_nan() && f32::from_bits(*b).is_nan(),
        (Val::F64(a), Val::F64(b)) => a == b || f64::from_bits(*a).is_nan() && f64::from_bits(*b).is_nan(),
        (Val::FuncRef(a), Val::FuncRef(b)) => a.is_some() == b.is_some(),
        _ => false,
    }
}

/// One of the two worlds.
pub struct World {
    /// Compiles; in the target's world, as the host does.
    compiler: Engine,
    /// Runs; in the target's world it is another engine, to which the code comes as bytes.
    engine: Engine,
    in_target: bool,
    store: Store<()>,
    linker: Linker<()>,
    definitions: HashMap<String, Module>,
    instances: HashMap<String, Instance>,
    /// The instance that was made last, if it could be made.
    current: Option<Instance>,
}

impl World {
    /// wasmtime with its own defaults.
    pub fn stock() -> Self {
        let engine = Engine::new(&Config::new()).unwrap();
        Self::new(engine.clone(), engine, false)
    }

    /// The agent's configuration, and the host's compiler.
    pub fn in_target() -> Self {
        let mut config = Config::new();
        trocar_sandbox::configure(&mut config);
        Self::new(trocar_compile::engine().unwrap(), Engine::new(&config).unwrap(), true)
    }

    fn new(compiler: Engine, engine: Engine, in_target: bool) -> Self {
        let mut store = Store::new(&engine, ());
        if in_target {
            store.set_fuel(PLENTY).unwrap();
        }
        let linker = Linker::new(&engine);
        let (definitions, instances) = (HashMap::new(), HashMap::new());
        let mut world =
            Self { compiler, engine, in_target, store, linker, definitions, instances, current: None };
        world.define_spectest();
        world
    }

    /// What every script may import.
    fn define_spectest(&mut self) {
        let (i32, i64, f32, f64) = (ValType::I32, ValType::I64, ValType::F32, ValType::F64);
        let printers = [
            ("print", vec![]),
            ("print_i32", vec![i32.clone()]),
            ("print_i64", vec![i64.clone()]),
            ("print_f32", vec![f32.clone()]),
            ("print_f64", vec![f64.clone()]),
            ("print_i32_f32", vec![i32.clone(), f32.clone()]),
            ("print_f64_f64", vec![f64.clone(), f64.clone()]),
        ];
        let (linker, store) = (&mut self.linker, &mut self.store);
        for (name, params) in printers {
            let ty = FuncType::new(&self.engine, params, []);
            let print = Func::new(&mut *store, ty, |_, _, _| Ok(()));
            linker.define(&*store, "spectest", name, print).unwrap();
        }
        let globals = [
            ("global_i32", i32, Val::I32(666)),
            ("global_i64", i64, Val::I64(666)),
            ("global_f32", f32, Val::F32(666.6f32.to_bits())),
            ("global_f64", f64, Val::F64(666.6f64.to_bits())),
        ];
        for (name, ty, value) in globals {
            let global = Global::new(&mut *store, GlobalType::new(ty, Mutability::Const), value).unwrap();
            linker.define(&*store, "spectest", name, global).unwrap();
        }
        let table = TableType::new(RefType::FUNCREF, 10, Some(20));
        let table = Table::new(&mut *store, table, Ref::Func(None)).unwrap();
        linker.define(&*store, "spectest", "table", table).unwrap();
        let memory = Memory::new(&mut *store, MemoryType::new(1, Some(2))).unwrap();
        linker.define(&*store, "spectest", "memory", memory).unwrap();
    }

    /// Compiles a module.
    ///
    /// # Errors
    /// It is not acceptable in this world.
    pub fn compile(&self, wasm: &[u8]) -> Result<Module, Error> {
        if !self.in_target {
            return Module::new(&self.engine, wasm);
        }
        let code = self.compiler.precompile_module(wasm)?;
        // SAFETY: bytes that the engine's own compiler has just made.
        unsafe { Module::deserialize(&self.engine, code) }
    }

    /// Instantiates a module, which runs its start function. It is the one that the script speaks of from here on, by
    /// its name too if it has one.
    pub fn instantiate(&mut self, name: Option<&str>, module: &Module) -> End {
        self.current = None;
        match self.linker.instantiate(&mut self.store, module) {
            Ok(instance) => {
                self.current = Some(instance);
                self.instances.extend(name.map(|n| (n.to_owned(), instance)));
                End::Values(Vec::new())
            }
            Err(error) => End::of(&error),
        }
    }

    /// Keeps a module under its name, to be instantiated later.
    pub fn define(&mut self, name: &str, module: Module) {
        self.definitions.insert(name.to_owned(), module);
    }

    /// Instantiates a module that was kept; `Missing` if there is none.
    pub fn instantiate_defined(&mut self, name: Option<&str>, module: &str) -> End {
        match self.definitions.get(module).cloned() {
            Some(module) => self.instantiate(name, &module),
            None => End::Missing,
        }
    }

    /// There is no current instance: its module was not acceptable.
    pub fn forget(&mut self, name: Option<&str>) {
        self.current = None;
        if let Some(name) = name {
            self.instances.remove(name);
        }
    }

    /// The instance of this name, or the current one.
    pub fn instance(&self, name: Option<&str>) -> Option<Instance> {
        name.map_or(self.current, |name| self.instances.get(name).copied())
    }

    /// Makes an instance's exports importable.
    pub fn register(&mut self, instance: Option<&str>, name: &str) -> End {
        let Some(instance) = self.instance(instance) else { return End::Missing };
        self.linker.allow_shadowing(true);
        match self.linker.instance(&mut self.store, name, instance) {
            Ok(_) => End::Values(Vec::new()),
            Err(error) => End::of(&error),
        }
    }

    /// Calls an export.
    pub fn invoke(&mut self, instance: Option<&str>, name: &str, arguments: &[Val]) -> End {
        let Some(instance) = self.instance(instance) else { return End::Missing };
        let Some(function) = instance.get_func(&mut self.store, name) else { return End::Missing };
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        match function.call(&mut self.store, arguments, &mut results) {
            Ok(()) => End::Values(results),
            Err(error) => End::of(&error),
        }
    }

    /// Reads a global.
    pub fn get(&mut self, instance: Option<&str>, name: &str) -> End {
        let Some(instance) = self.instance(instance) else { return End::Missing };
        match instance.get_global(&mut self.store, name) {
            Some(global) => End::Values(vec![global.get(&mut self.store)]),
            None => End::Missing,
        }
    }
}
