//! The second tier: a handler that does nothing but compute with a hit's registers and count, as a native function that a
//! hit can call without entering wasm.
//!
//! Simple is what has no loop, no memory, no trap and no call but those of `SIMPLE`, with maps, entries and arguments that
//! are constants (or proven to be within the map). Such a handler cannot go wrong at run time, so there is nothing to
//! limit: it takes a few nanoseconds, whatever the hit. `translate` turns it into Cranelift's intermediate form; `proof`
//! reads the machine code that came of it and takes nothing for granted. Whatever is not simple runs under wasmtime, with
//! the same results (`tests/it/lower.rs` compares the two).
//!
//! ```text
//! handler(rdi: the context's block in shared memory, esi: the site's index, rdx: StubFrame)
//! ```
//! It keeps every register (Cranelift's `preserve_all`), and changes nothing but the flags and words of that block.

mod compute;
mod proof;
mod translate;

use std::mem::offset_of;

use cranelift_codegen::ir::{AbiParam, Function, Signature, UserFuncName, types};
use cranelift_codegen::isa::{CallConv, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{CodegenError, Context, control::ControlPlane};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use trocar_abi::PAGE;
use trocar_abi::map::MapSpec;
use trocar_abi::shared::{ContextShared, Layout, STUB_FUEL, SiteStats};

use crate::verify::Verified;
use crate::verify::inventory::Inventory;
use translate::Translator;

/// Native code is billed by its bound, whatever way a hit takes, and is never timed. So that this is near the truth it is
/// for handlers whose dearest way is cheap, too, and whose maps stay in the processor's cache.
const WORST_MAX: u64 = 200;
const MAPS_MAX: u64 = 256 << 10;

/// What a handler's native code is made for.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The maps, with the offsets of their shards.
    pub maps: &'a [MapSpec],
    /// Integer parameters by index; `None` for text.
    pub params: &'a [Option<u64>],
    /// Sites of the session.
    pub sites: u32,
    /// Arguments are passed as Go does.
    pub go: bool,
}

/// A handler as native code.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// Position-independent, without calls; it ends in `ret`.
    pub code: Vec<u8>,
    /// It looks at registers.
    pub registers: bool,
    /// The fuel that a hit of it is billed.
    pub fuel: u64,
}

/// Why a handler is not simple.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotSimple(pub(crate) String);

impl NotSimple {
    fn because(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// The handler `name` of a module as native code.
///
/// # Errors
/// Why it stays under wasmtime: no fault of the probe's.
pub fn lower(wasm: &[u8], verified: &Verified, name: &str, facts: &Facts<'_>) -> Result<Lowered, NotSimple> {
    let inventory = Inventory::of(wasm).map_err(|e| NotSimple::because(e.message))?;
    let handler = verified.handlers.iter().find(|h| h.name == name);
    let worst = handler.and_then(|h| h.worst_fuel.as_ref().ok());
    let Some(&worst) = worst else { return Err(NotSimple::because("its cost has no bound")) };
    if worst > WORST_MAX {
        return Err(NotSimple::because(format!(
            "its dearest way takes {worst} units of fuel, over {WORST_MAX}"
        )));
    }
    let bytes = facts.maps.iter().fold(0_u64, |sum, map| sum.saturating_add(map.shard_bytes()));
    if bytes > MAPS_MAX {
        return Err(NotSimple::because(format!("its maps are {bytes} bytes, over {MAPS_MAX}")));
    }
    let exported = inventory.exports.iter().find(|(n, _)| *n == name);
    let Some((_, index)) = exported else { return Err(NotSimple::because("it is not exported")) };
    let mut function = Function::with_name_signature(UserFuncName::default(), signature());
    let mut frontend = FunctionBuilderContext::new();
    let builder = FunctionBuilder::new(&mut function, &mut frontend);
    let isa = target()?;
    let registers = Translator::new(builder, &inventory, translate::globals(wasm)?, facts)
        .handler(*index, isa.frontend_config())?;
    let mut context = Context::for_function(function);
    let compiled =
        context.compile(isa.as_ref(), &mut ControlPlane::default()).map_err(|e| refused(&e.inner))?;
    if !compiled.buffer.relocs().is_empty() {
        return Err(NotSimple::because("its code refers to something outside"));
    }
    let code = compiled.code_buffer().to_vec();
    proof::check(&code)?;
    Ok(Lowered { code, registers, fuel: STUB_FUEL + worst / 2 })
}

fn refused(error: &CodegenError) -> NotSimple {
    NotSimple::because(format!("the compiler refused it: {error}"))
}

fn signature() -> Signature {
    let mut signature = Signature::new(CallConv::PreserveAll);
    signature.params.extend([types::I64, types::I32, types::I64].map(AbiParam::new));
    signature
}

/// Any x86-64 processor, as for the code that wasmtime runs.
fn target() -> Result<OwnedTargetIsa, NotSimple> {
    let mut flags = settings::builder();
    let wanted = [
        ("opt_level", "speed"),
        ("is_pic", "true"),
        ("unwind_info", "false"),
        ("preserve_frame_pointers", "false"),
        ("enable_probestack", "false"),
        // Two additions to one word stay two: each is one instruction on memory, which a signal cannot cut in two.
        ("enable_alias_analysis", "false"),
        ("enable_verifier", "true"),
    ];
    for (name, value) in wanted {
        flags
            .set(name, value)
            .map_err(|e| NotSimple::because(format!("the compiler's setting {name}: {e}")))?;
    }
    let isa = cranelift_codegen::isa::lookup_by_name("x86_64-unknown-linux-gnu")
        .map_err(|e| NotSimple::because(format!("the compiler has no x86-64: {e}")))?;
    isa.finish(settings::Flags::new(flags)).map_err(|e| refused(&e))
}

/// Offsets in a context's block in the shared memory.
#[derive(Clone, Copy, Debug)]
struct Offsets {
    stats: i32,
    maps: i64,
}

impl Offsets {
    const STUB_HITS: i32 = small(offset_of!(ContextShared, stub_hits));
    const HITS: i32 = small(offset_of!(SiteStats, hits));
    const EXECUTED: i32 = small(offset_of!(SiteStats, executed));
    const CONDITION_FALSE: i32 = small(offset_of!(SiteStats, condition_false));

    fn of(sites: u32) -> Self {
        let layout = Layout { sites, contexts: 1, maps: 0, ring: 64 };
        let start = layout.context(0);
        let maps = layout.context_maps(0) - start;
        debug_assert_eq!(layout.context_stats(0) - start, PAGE, "the counters begin on the second page");
        Self { stats: STATS, maps: maps.cast_signed() }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "offsets within two pages")]
const fn small(offset: usize) -> i32 {
    assert!(offset <= 8192);
    offset as i32
}

/// Where a context's counters begin: on the second page of its block.
#[expect(clippy::cast_possible_truncation, reason = "a page")]
const STATS: i32 = small(PAGE as usize);

/// Bytes of a site's counters, as a shift.
const STATS_SHIFT: i64 = size_of::<SiteStats>().trailing_zeros() as i64;
const _: () = assert!(size_of::<SiteStats>().is_power_of_two());
