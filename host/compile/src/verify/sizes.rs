//! The limits of sizes: everything that the validator and the compiler spend time or memory on is counted first.
//!
//! One pass over the bytes, before anything else looks inside. It asks for no feature and checks nothing but numbers;
//! where the bytes cannot be read it stops, and the validator says why. The bounds lie far above what compilers make of
//! a probe: each is there so that a module which was made to be large is refused for what is large in it. They do not
//! bound the compiler's time by themselves; [`crate::compiler`] does.

use wasmparser::{
    BlockType, CompositeInnerType, Data, Element, ElementItems, FuncType, FunctionBody, Operator, Parser,
    Payload, TypeRef,
};

use super::error::{Reason, VerifyError};

/// Most function types.
const TYPES_MAX: u32 = 10_000;
/// Most parameters of a type.
const PARAMS_MAX: usize = 100;
/// Most results of a type: what a branch carries, and a call takes from the stack.
const RESULTS_MAX: usize = 16;
/// Most functions, imported ones included.
const FUNCTIONS_MAX: u64 = 10_000;
/// Most bytes of code of one function.
const BODY_MAX: usize = 512 << 10;
/// Most locals of one function.
const LOCALS_MAX: u64 = 5_000;
/// Most locals of all functions together.
const ALL_LOCALS_MAX: u64 = 200_000;
/// Most blocks within each other.
const NESTING_MAX: u64 = 2_000;
/// Most targets of one branch table.
const TARGETS_MAX: u64 = 5_000;
/// Most operators, and values that branches, blocks and calls take and leave: the validator's work, which a branch table of
/// few bytes with many targets that each take many values would make a thousand times that of reading it.
const WORK_MAX: u64 = 8 << 20;
/// Most elements of all tables together, and of all element segments together.
const ELEMENTS_MAX: u64 = 10_000;
/// Most segments of elements.
const SEGMENTS_MAX: u32 = 10_000;
/// Most segments of data. Go's linker makes one for each piece between zeros: 21 000 in an empty program.
const DATA_SEGMENTS_MAX: u32 = 50_000;
/// Most bytes of data segments together.
const DATA_MAX: u64 = 1 << 20;
/// Most globals.
const GLOBALS_MAX: u32 = 1_000;
/// Most exports, and most imports.
const NAMES_MAX: u32 = 10_000;

/// Where everything in a module is said to be fewer than its limit.
pub(super) fn check(wasm: &[u8]) -> Result<(), VerifyError> {
    let mut sizes = Sizes::default();
    for payload in Parser::new(0).parse_all(wasm) {
        let Ok(payload) = payload else { return Ok(()) };
        match sizes.take(payload) {
            Ok(()) => {}
            Err(Stop::Large(error)) => return Err(error),
            Err(Stop::Unreadable) => return Ok(()),
        }
    }
    Ok(())
}

/// Why the count ends before the module does.
enum Stop {
    Large(VerifyError),
    /// The validator will find the same, and has the words for it.
    Unreadable,
}

impl From<wasmparser::Error> for Stop {
    fn from(_: wasmparser::Error) -> Self {
        Self::Unreadable
    }
}

#[derive(Debug, Default)]
struct Sizes {
    functions: u64,
    elements: u64,
    data: u64,
    locals: u64,
    work: u64,
    /// Parameters and results of each type together.
    arities: Vec<u64>,
    /// The type of each function.
    types: Vec<u32>,
}

impl Sizes {
    fn take(&mut self, payload: Payload<'_>) -> Result<(), Stop> {
        match payload {
            Payload::TypeSection(section) => {
                limit("types", section.count().into(), TYPES_MAX.into(), "")?;
                for group in section {
                    for ty in group?.types() {
                        self.arities.push(match &ty.composite_type.inner {
                            CompositeInnerType::Func(f) => signature(f)?,
                            _ => 0,
                        });
                    }
                }
            }
            Payload::ImportSection(section) => {
                limit("imports", section.count().into(), NAMES_MAX.into(), "")?;
                self.functions(section.count())?;
                for import in section.into_imports() {
                    if let TypeRef::Func(ty) = import?.ty {
                        self.types.push(ty);
                    }
                }
            }
            Payload::FunctionSection(section) => {
                self.functions(section.count())?;
                for ty in section {
                    self.types.push(ty?);
                }
            }
            Payload::TableSection(section) => {
                let mut elements = 0u64;
                for table in section {
                    elements = elements.saturating_add(table?.ty.initial);
                }
                limit("table elements", elements, ELEMENTS_MAX, "")?;
            }
            Payload::GlobalSection(section) => {
                limit("globals", section.count().into(), GLOBALS_MAX.into(), "")?;
            }
            Payload::ExportSection(section) => {
                limit("exports", section.count().into(), NAMES_MAX.into(), "")?;
            }
            Payload::ElementSection(section) => {
                limit("element segments", section.count().into(), SEGMENTS_MAX.into(), "")?;
                for element in section {
                    self.elements(&element?)?;
                }
            }
            Payload::DataSection(section) => {
                limit("data segments", section.count().into(), DATA_SEGMENTS_MAX.into(), "")?;
                for data in section {
                    self.data(&data?)?;
                }
            }
            Payload::CodeSectionEntry(body) => self.code(&body)?,
            // Tags and components are refused for what they are; the other sections hold one number, or names.
            _ => {}
        }
        Ok(())
    }

    fn functions(&mut self, count: u32) -> Result<(), Stop> {
        self.functions = self.functions.saturating_add(count.into());
        limit(
            "functions",
            self.functions,
            FUNCTIONS_MAX,
            "; link with --gc-sections and strip what is unused",
        )
    }

    fn elements(&mut self, element: &Element<'_>) -> Result<(), Stop> {
        let count = match &element.items {
            ElementItems::Functions(items) => items.count(),
            ElementItems::Expressions(_, items) => items.count(),
        };
        self.elements = self.elements.saturating_add(count.into());
        limit("elements in segments", self.elements, ELEMENTS_MAX, "")
    }

    fn data(&mut self, data: &Data<'_>) -> Result<(), Stop> {
        self.data = self.data.saturating_add(data.data.len() as u64);
        limit("bytes of data", self.data, DATA_MAX, "")
    }

    fn code(&mut self, body: &FunctionBody<'_>) -> Result<(), Stop> {
        const SMALLER: &str = "; split the function, and build it with optimization";
        limit("bytes of code in one function", body.range().len() as u64, BODY_MAX as u64, SMALLER)?;
        let mut locals = 0u64;
        for group in body.get_locals_reader()? {
            locals = locals.saturating_add(group?.0.into());
        }
        limit("locals in one function", locals, LOCALS_MAX, "; build it with optimization")?;
        self.locals = self.locals.saturating_add(locals);
        limit("locals in all functions", self.locals, ALL_LOCALS_MAX, "; build it with optimization")?;
        // What a branch to each open block carries, or less.
        let mut labels = vec![0u64];
        for operator in body.get_operators_reader()? {
            let operator = operator?;
            self.work = self.work.saturating_add(self.work_of(&operator, &labels));
            limit("operators, and values that they carry", self.work, WORK_MAX, SMALLER)?;
            match operator {
                Operator::Block { blockty }
                | Operator::Loop { blockty }
                | Operator::If { blockty }
                | Operator::Try { blockty } => labels.push(self.arity_of(blockty)),
                Operator::TryTable { .. } => labels.push(0),
                Operator::End => drop(labels.pop()),
                Operator::BrTable { targets } => {
                    limit("targets in one branch table", targets.len().into(), TARGETS_MAX, SMALLER)?;
                }
                _ => {}
            }
            // The function is one of them.
            limit("blocks within each other", labels.len().saturating_sub(1) as u64, NESTING_MAX, SMALLER)?;
        }
        Ok(())
    }

    fn work_of(&self, operator: &Operator<'_>, labels: &[u64]) -> u64 {
        let label = |depth: u32| {
            labels.len().checked_sub(1 + depth as usize).and_then(|i| labels.get(i)).copied().unwrap_or(0)
        };
        1 + match operator {
            Operator::Block { blockty } | Operator::Loop { blockty } | Operator::If { blockty } => {
                self.arity_of(*blockty)
            }
            Operator::Br { relative_depth } | Operator::BrIf { relative_depth } => label(*relative_depth),
            Operator::BrTable { targets } => u64::from(targets.len()) * (1 + label(targets.default())),
            Operator::Return => labels.first().copied().unwrap_or(0),
            Operator::Call { function_index } => {
                self.types.get(*function_index as usize).map_or(0, |ty| self.arity(*ty))
            }
            Operator::CallIndirect { type_index, .. } => self.arity(*type_index),
            _ => 0,
        }
    }

    fn arity_of(&self, block: BlockType) -> u64 {
        match block {
            BlockType::Empty => 0,
            BlockType::Type(_) => 1,
            BlockType::FuncType(ty) => self.arity(ty),
        }
    }

    fn arity(&self, ty: u32) -> u64 {
        self.arities.get(ty as usize).copied().unwrap_or(0)
    }
}

/// Counts a type's parameters and results.
fn signature(ty: &FuncType) -> Result<u64, Stop> {
    const FEWER: &str = ": pass a pointer to a structure";
    limit("parameters in one type", ty.params().len() as u64, PARAMS_MAX as u64, FEWER)?;
    limit("results in one type", ty.results().len() as u64, RESULTS_MAX as u64, FEWER)?;
    Ok((ty.params().len() + ty.results().len()) as u64)
}

fn limit(what: &str, found: u64, max: u64, hint: &str) -> Result<(), Stop> {
    if found > max {
        let message = format!("the module has {found} {what}; the limit is {max}");
        let next = format!("make the probe smaller{hint}");
        return Err(Stop::Large(VerifyError::new(Reason::TooLarge, message).hint(next)));
    }
    Ok(())
}
