//! `manifest!`: declares what the probe is, has and writes, as handles for the code and as JSON for the host.

/// Says what the probe is. Once in a probe; everything but the name may be left out, the order is fixed.
///
/// ```
/// # mod probe {
/// use trocar_probe_sdk::*;
///
/// manifest! {
///     name: "sizes",
///     version: "0.1.0",
///     description: "Sizes that are asked for",
///     fuel: 20_000,                     // for each hit; the default is 10 000
///     memory_bytes: 131_072,            // of one instance; the default is 1 MiB + 64 KiB
///     params: {
///         /// From this size on it is large.      (the user sees this, and sets it with --set large=4096)
///         LARGE: int = 1024,
///         /// A word for the log.
///         WORD: str = "malloc",
///     },
///     maps: {
///         /// Calls.
///         CALLS: counter[2] = ["all", "large"],
///         /// Sizes in bytes.
///         SIZES: hist[1],
///         /// Calls by thread and processor.
///         BY_THREAD: hash[1024] of Place { tid: u32, cpu: u32 },
///     },
///     events: {
///         /// A large one.
///         LargeOne { size: u64, caller: Hex64, word: Text<16> },
///     },
/// }
///
/// #[probe(at = "libc.so.6:malloc")]
/// fn on_hit() {
///     let size = arg(0);
///     CALLS.add(0, 1);
///     SIZES.add(0, size);
///     let _ = BY_THREAD.add(&Place { tid: tid(), cpu: cpu() }, 1);
///     if size >= LARGE.get() {
///         LargeOne { size, caller: Hex64(reg(register::RIP)), word: WORD.get() }.emit();
///     }
/// }
/// # }
/// ```
///
/// In the manifest the names are in lower case: `large`, `by_thread`, `large_one`.
#[macro_export]
macro_rules! manifest {
    (
        name: $name:expr
        $(, version: $version:expr)?
        $(, description: $description:expr)?
        $(, fuel: $fuel:expr)?
        $(, memory_bytes: $memory:expr)?
        $(, params: { $(
            $(#[doc = $about:expr])* $param:ident: $type:ident $(= $default:expr)?
        ),* $(,)? })?
        $(, maps: { $(
            $(#[doc = $map_about:expr])*
            $map:ident: $kind:ident[$entries:expr]
            $(of $key:ident { $($part:ident: $part_type:ty),* $(,)? })?
            $(= [$($label:expr),* $(,)?])?
        ),* $(,)? })?
        $(, events: { $(
            $(#[doc = $event_about:expr])*
            $event:ident { $($field:ident: $field_type:ty),* $(,)? }
        ),* $(,)? })?
        $(,)?
    ) => {
        $($(
            #[doc = concat!("Parameter `", stringify!($param), "`.")]
            $(#[doc = $about])*
            pub const $param: $crate::__handle!($type) = <$crate::__handle!($type)>::number(
                $crate::manifest::position(__TROCAR_PARAMS, stringify!($param)),
            );
        )*)?
        #[doc(hidden)]
        pub const __TROCAR_PARAMS: &[&str] = &[$($(stringify!($param)),*)?];

        $($(
            $(
                $crate::__fields! { concat!("Key of `", stringify!($map), "`."), $key { $($part: $part_type),* } }
            )?
            #[doc = concat!("Map `", stringify!($map), "`.")]
            $(#[doc = $map_about])*
            pub const $map: $crate::__handle!($kind $($key)?) = <$crate::__handle!($kind $($key)?)>::number(
                $crate::manifest::position(__TROCAR_MAPS, stringify!($map)),
            );
        )*)?
        #[doc(hidden)]
        pub const __TROCAR_MAPS: &[&str] = &[$($(stringify!($map)),*)?];

        $($(
            $crate::__fields! { concat!($($event_about,)* ""), $event { $($field: $field_type),* } }
            impl $event {
                /// Writes this event.
                #[inline]
                pub fn emit(self) {
                    $crate::emit(
                        const { $crate::manifest::position(__TROCAR_EVENTS, stringify!($event)) },
                        &self,
                    );
                }
            }
        )*)?
        #[doc(hidden)]
        pub const __TROCAR_EVENTS: &[&str] = &[$($(stringify!($event)),*)?];

        /// The manifest, without its handlers.
        #[doc(hidden)]
        pub const __TROCAR_MANIFEST: $crate::manifest::Json = {
            let mut json = $crate::manifest::Json::new();
            json.raw("{\"abi\":1,\"name\":");
            json.string($name);
            $(json.raw(",\"version\":"); json.string($version);)?
            $(json.raw(",\"description\":"); json.string($description);)?
            $(json.raw(",\"limits\":{\"fuel\":"); json.number($fuel); json.raw("}");)?
            json.raw(",\"params\":[");
            $($(
                json.next();
                json.raw("{\"name\":");
                json.name(stringify!($param));
                json.raw(",\"type\":");
                json.string(stringify!($type));
                $(json.raw(",\"default\":"); $crate::__default!(json $type $default);)?
                json.raw(",\"about\":");
                json.about(&[$($about),*]);
                json.raw("}");
            )*)?
            json.raw("],\"maps\":[");
            $($(
                json.next();
                json.raw("{\"name\":");
                json.name(stringify!($map));
                json.raw(",\"kind\":");
                json.string(stringify!($kind));
                json.raw(",\"entries\":");
                json.number($entries);
                $(
                    json.raw(",\"key\":[");
                    $(json.field::<$part_type>(stringify!($part));)*
                    json.raw("]");
                )?
                $(json.raw(",\"labels\":"); json.strings(&[$($label),*]);)?
                json.raw("}");
            )*)?
            json.raw("],\"events\":[");
            $($(
                json.next();
                json.raw("{\"name\":");
                json.name(stringify!($event));
                json.raw(",\"fields\":[");
                $(json.field::<$field_type>(stringify!($field));)*
                json.raw("]}");
            )*)?
            json.raw("]}\n");
            // A second object, so that each limit stands alone: the host merges the objects of the section.
            $(json.raw("{\"limits\":{\"memory_bytes\":"); json.number($memory); json.raw("}}\n");)?
            json
        };

        // A custom section of the module. Not `#[used]`: that would keep a second copy in the probe's memory.
        const _: () = {
            #[cfg(target_arch = "wasm32")]
            #[unsafe(link_section = "trocar.manifest")]
            static SECTION: [u8; __TROCAR_MANIFEST.len()] = __TROCAR_MANIFEST.bytes();
        };
    };
}

/// The type of the handle of a map or parameter.
#[doc(hidden)]
#[macro_export]
macro_rules! __handle {
    (int) => { $crate::Int };
    (str) => { $crate::Str };
    (counter) => { $crate::Counter };
    (hist) => { $crate::Hist };
    (hash $key:ident) => { $crate::Hash<$key> };
    (hash) => { compile_error!("a hash map has a key: write NAME: hash[1024] of Key { part: u64 }") };
    ($other:ident $($key:ident)?) => {
        compile_error!("parameters are `int` or `str`; maps are `counter`, `hist` or `hash`, and only `hash` has a key")
    };
}

/// Writes the default of a parameter.
#[doc(hidden)]
#[macro_export]
macro_rules! __default {
    ($json:ident int $default:expr) => {
        $json.number($default)
    };
    ($json:ident str $default:expr) => {
        $json.string($default)
    };
}

/// A struct of fields without holes.
#[doc(hidden)]
#[macro_export]
macro_rules! __fields {
    ($about:expr, $name:ident { $($field:ident: $type:ty),* }) => {
        #[doc = $about]
        #[derive(Clone, Copy)]
        #[repr(C, packed)]
        pub struct $name {
            $(
                #[doc = concat!("Field `", stringify!($field), "`.")]
                pub $field: $type,
            )*
        }

        const _: () = {
            const fn field<T: $crate::Field>() {}
            $(field::<$type>();)*
        };

        // SAFETY: `repr(C, packed)`, and each field is a `Field`, as the constant above proves.
        unsafe impl $crate::Fields for $name {}
    };
}
