//! Numbers of registers, as [`crate::reg`] takes them: those of DWARF (System V x86-64 ABI, figure 3.36).

macro_rules! registers {
    ($($name:ident = $number:literal),* $(,)?) => {
        $(
            #[doc = concat!("Number of the register, ", stringify!($number), ".")]
            pub const $name: u32 = $number;
        )*
    };
}

registers! {
    RAX = 0, RDX = 1, RCX = 2, RBX = 3, RSI = 4, RDI = 5, RBP = 6, RSP = 7, R8 = 8, R9 = 9, R10 = 10, R11 = 11,
    R12 = 12, R13 = 13, R14 = 14, R15 = 15, RIP = 16,
}
