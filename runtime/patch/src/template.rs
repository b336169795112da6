//! The trampoline as a list of named parts: which there are, in which order, and how long each is.
//!
//! Making a template is pure and does not look at distances; [`Template::emit`] puts the bytes out and fails
//! where something is out of reach. `recognise.rs` reads the same parts back: change them together.
//!
//! ```text
//!             [head]                      the window's instructions before the site, where it begins earlier;
//!                                         Go: the stack check, whose way out leaves from here
//!             j!cc  tail                  only at a conditional exit: not taken is no hit
//!  hit:       lea   rsp, [rsp-128]        only where the red zone may be live
//!             push  rcx                   the one register that is needed; flags stay as they are
//!             mov   rcx, [rip+gate]       zero: closed (fork child, off, deadline)
//!             jrcxz closed                tests without flags
//!             [room]                      Go only, see below
//!  open:      mov   ecx, site
//!             call  [rip+agent_cell]      saves all, restores all but rcx
//!  closed:    pop   rcx
//!             lea   rsp, [rsp+128]        only where it was lowered
//!             [tail]                      the window's instructions from the site on
//!             jmp   back                  to the window's end; dead after a call, jump or return, but kept,
//!                                         so that every trampoline has the same shape
//!             [literal]                   the return address of a displaced call, eight bytes
//!
//!  room:      mov   rcx, [r14]            g.stack.lo; in ABI0: mov rcx, fs:[g]; mov rcx, [rcx]
//!             not   rcx                   -lo - 1
//!             lea   rcx, [rsp+rcx+1-N]    rsp - lo - N, negative when there is no room
//!             bswap rcx                   the sign to the lowest byte: 0 or 0xff, since addresses
//!             movzx ecx, cl               have 48 (or 57) bits; none of these touches flags
//!             jrcxz open
//!             pushfq                      only where losses are counted:
//!             lock inc qword [rip+skipped]
//!             popfq
//!             jmp   closed
//!
//!  hit:       mov   r12, rcx              Go, in a function without a stack check: nothing is pushed before the
//!             mov   rcx, [rip+gate]       room is known, and r12 and r13 hold nothing
//!             jrcxz closed
//!             mov   rcx, fs:[g]           the thread's goroutine: if there is none, there is no room
//!             jrcxz none
//!             mov   r13, r14
//!             not   r13
//!             lea   rcx, [rcx+r13+1]      minus r14: is it the same?
//!             jrcxz same
//!             jmp   none
//!  same:      mov   rcx, [r14]            g.stack.lo
//!             ...                         as above: 0 or 0xff
//!             mov   r13, [r14+8]          g.stack.hi
//!             not   r13
//!             lea   r13, [rsp+r13+1]      rsp - hi
//!             not   r13                   hi - rsp - 1, negative when this is not its stack
//!             bswap r13
//!             movzx r13d, r13b            0 or 0xff
//!             lea   rcx, [rcx+r13]
//!             jrcxz open
//!  none:      mov   r13, rax              only where losses are counted; flags are kept without a stack
//!             lahf
//!             seto  al
//!             lock inc qword [rip+skipped]
//!             add   al, 0x7f              overflows where it had
//!             sahf
//!             mov   rax, r13
//!             jmp   closed
//!  open:      push  r12                   what the agent takes for rcx
//!             mov   ecx, site
//!             call  [rip+agent_cell]
//!             lea   rsp, [rsp+8]
//!  closed:    mov   rcx, r12
//! ```
//!
//! A closed gate costs, besides the two jumps and the window: a push, a load, a jrcxz, a pop, and two `lea` where
//! the red zone is skipped. Why not test first and push later: a flag-free test needs a register, and there is
//! nowhere to keep its value but below the red zone. Why not jump through a word that holds the hit's address:
//! the word is wiped in a fork child, and zero must mean closed.

use crate::go::{GO_STACK_ROOM, GoSource};
use crate::refusal::Refusal;
use crate::relocate::Displaced;
use crate::site_plan::{HitPosition, SitePlan};

/// Where a trampoline and what it uses lie, in addresses of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Address of the module minus its link-time address, wrapping.
    pub bias: u64,
    /// Address of the trampoline's first byte.
    pub trampoline: u64,
    /// Address of the eight bytes that hold the address of the agent's hit entry.
    pub agent_cell: u64,
    /// Address of the eight bytes that are zero while the gate is closed.
    pub gate: u64,
    /// Index of the site, handed to the agent in `ecx`.
    pub site_index: u32,
    /// Skip the red zone. May be false where [`SitePlan::red_zone_dead`] says so; false in Go.
    pub red_zone: bool,
    /// Go: address of the eight bytes that count hits without stack room.
    pub skipped_cell: Option<u64>,
}

/// A part of a trampoline.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Part {
    /// The site's conditional jump, negated, to the tail, which begins with it.
    UnlessTaken,
    /// `lea rsp,[rsp-128]`.
    SkipRedZone,
    /// `push rcx`.
    SaveRcx,
    /// `mov r12,rcx`.
    KeepRcx,
    /// `mov rcx,[rip+gate]`.
    LoadGate,
    /// `jrcxz closed`.
    LeaveIfClosed,
    /// The goroutine's lowest stack address in rcx, and from it 0 if there is room for a hit.
    MeasureStack(GoSource),
    /// `jrcxz open`.
    GoOnIfRoom,
    /// `pushfq; lock inc qword [rip+skipped]; popfq`; the same without a stack, where nothing may be pushed.
    CountSkipped(GoSource),
    /// `jmp closed`.
    LeaveWithoutRoom,
    /// `push r12`.
    PushKept,
    /// `mov ecx, site`.
    LoadSite,
    /// `call [rip+agent_cell]`.
    CallAgent,
    /// `lea rsp,[rsp+8]`.
    DropKept,
    /// `mov rcx,r12`.
    FetchKept,
    /// `pop rcx`.
    RestoreRcx,
    /// `lea rsp,[rsp+128]`.
    RestoreRedZone,
    /// The window's instructions before the hit.
    Head,
    /// The window's instructions after the hit.
    Tail,
    /// `jmp back`.
    JumpBack,
    /// Return address of a displaced call.
    Literal,
}

/// A trampoline laid out, not yet bytes.
#[derive(Clone, Debug)]
pub struct Template {
    pub(crate) plan: SitePlan,
    pub(crate) placement: Placement,
    pub(crate) window: Vec<Displaced>,
    /// How many of them come before the hit.
    pub(crate) before: usize,
    /// Offset, length and kind of each part.
    pub(crate) parts: Vec<(usize, usize, Part)>,
    length: usize,
}

impl Template {
    /// Lays out the trampoline of a site.
    ///
    /// # Errors
    /// A refusal when the plan's bytes do not decode or cannot be moved; a plan from
    /// [`crate::Analysis::plan`] never gives one.
    pub fn make(plan: &SitePlan, placement: &Placement) -> Result<Self, Refusal> {
        let window = Displaced::decode_all(&plan.original, plan.window.start.wrapping_add(placement.bias))?;
        let before = match plan.position {
            HitPosition::Before => 0,
            HitPosition::Inside(n) => usize::from(n).min(window.len()),
            HitPosition::After => window.len(),
        };
        let length =
            |list: &[Displaced]| list.iter().try_fold(0, |sum, i| Ok::<_, Refusal>(sum + i.length()?));
        let (head, tail) = window.split_at_checked(before).unwrap_or((&window, &[]));
        let (head, tail) = (length(head)?, length(tail)?);
        let mut kinds = Vec::with_capacity(16);
        if before > 0 {
            kinds.push(Part::Head);
        }
        if plan.when_taken {
            kinds.push(Part::UnlessTaken);
        }
        if placement.red_zone {
            kinds.push(Part::SkipRedZone);
        }
        let unchecked = matches!(plan.go, Some(GoSource::Unchecked(_)));
        let save = if unchecked { Part::KeepRcx } else { Part::SaveRcx };
        kinds.extend([save, Part::LoadGate, Part::LeaveIfClosed]);
        if let Some(source) = plan.go {
            kinds.extend([Part::MeasureStack(source), Part::GoOnIfRoom]);
            if placement.skipped_cell.is_some() {
                kinds.push(Part::CountSkipped(source));
            }
            kinds.push(Part::LeaveWithoutRoom);
        }
        if unchecked {
            kinds.extend([Part::PushKept, Part::LoadSite, Part::CallAgent, Part::DropKept, Part::FetchKept]);
        } else {
            kinds.extend([Part::LoadSite, Part::CallAgent, Part::RestoreRcx]);
        }
        if placement.red_zone {
            kinds.push(Part::RestoreRedZone);
        }
        if before < window.len() {
            kinds.push(Part::Tail);
        }
        kinds.push(Part::JumpBack);
        if window.iter().any(Displaced::is_call) {
            kinds.push(Part::Literal);
        }
        let mut length = 0;
        let mut parts = Vec::with_capacity(kinds.len());
        for part in kinds {
            let bytes = part.length(head, tail);
            parts.push((length, bytes, part));
            length += bytes;
        }
        Ok(Self { plan: plan.clone(), placement: *placement, window, before, parts, length })
    }

    /// Bytes of the trampoline: the same at every address.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }

    /// The parts with their offsets in bytes, in order.
    pub fn parts(&self) -> impl Iterator<Item = (usize, &Part)> {
        self.parts.iter().map(|(offset, _, part)| (*offset, part))
    }

    /// Offset of the first part for which `which` holds.
    pub(crate) fn offset_of(&self, which: impl Fn(&Part) -> bool) -> Option<usize> {
        self.parts.iter().find(|p| which(&p.2)).map(|p| p.0)
    }
}

impl Part {
    /// Bytes of the part, in a trampoline whose `head` and `tail` take so many.
    const fn length(&self, head: usize, tail: usize) -> usize {
        match self {
            Self::SkipRedZone => 5,
            Self::SaveRcx | Self::RestoreRcx => 1,
            Self::KeepRcx | Self::FetchKept => 3,
            Self::LoadGate => 7,
            Self::UnlessTaken
            | Self::LeaveIfClosed
            | Self::GoOnIfRoom
            | Self::LeaveWithoutRoom
            | Self::PushKept => 2,
            Self::MeasureStack(GoSource::R14) => 3 + MEASURE,
            Self::MeasureStack(GoSource::Tls(_)) => 9 + 3 + MEASURE,
            Self::MeasureStack(GoSource::Unchecked(_)) => 9 + SAME.len() + 3 + MEASURE + TOP.len(),
            Self::CountSkipped(GoSource::Unchecked(_)) => KEEP_FLAGS.len() + 8 + RESTORE_FLAGS.len(),
            Self::CountSkipped(_) => 1 + 8 + 1,
            Self::LoadSite | Self::JumpBack | Self::DropKept => 5,
            Self::CallAgent => 6,
            Self::RestoreRedZone | Self::Literal => 8,
            Self::Head => head,
            Self::Tail => tail,
        }
    }
}

/// Bytes of `not`, `lea`, `bswap`, `movzx`.
const MEASURE: usize = 3 + 8 + 3 + 3;

/// From the thread's goroutine in rcx to r14, if they are the same; else to the count behind the measure.
pub const SAME: [u8; 17] = [
    0xe3,
    15 + TO_COUNT, // jrcxz none
    0x4d,
    0x89,
    0xf5, // mov r13,r14
    0x49,
    0xf7,
    0xd5, // not r13
    0x4a,
    0x8d,
    0x4c,
    0x29,
    0x01, // lea rcx,[rcx+r13+1]
    0xe3,
    0x02, // jrcxz same
    0xeb,
    TO_COUNT, // jmp none
];
/// From there to what follows the measure and its `jrcxz open`.
const TO_COUNT: u8 = 3 + 3 + 8 + 3 + 3 + 26 + 2;

/// From the upper end of the goroutine's stack to the sum of both measures in rcx; without a displacement or a place.
pub const TOP: [u8; 26] = [
    0x4d, 0x8b, 0x6e, 0x08, // mov r13,[r14+8]
    0x49, 0xf7, 0xd5, // not r13
    0x4e, 0x8d, 0x6c, 0x2c, 0x01, // lea r13,[rsp+r13+1]
    0x49, 0xf7, 0xd5, // not r13
    0x49, 0x0f, 0xcd, // bswap r13
    0x45, 0x0f, 0xb6, 0xed, // movzx r13d,r13b
    0x4a, 0x8d, 0x0c, 0x29, // lea rcx,[rcx+r13]
];

/// `mov r13,rax; lahf; seto al`.
pub const KEEP_FLAGS: [u8; 7] = [0x49, 0x89, 0xc5, 0x9f, 0x0f, 0x90, 0xc0];
/// `add al,0x7f; sahf; mov rax,r13`.
pub const RESTORE_FLAGS: [u8; 6] = [0x04, 0x7f, 0x9e, 0x4c, 0x89, 0xe8];

/// The displacement of the `lea` that measures the stack: `1 - GO_STACK_ROOM`.
pub const ROOM_DISPLACEMENT: i32 = 1 - GO_STACK_ROOM.cast_signed();
