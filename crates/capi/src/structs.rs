//! Structures that programs and library may know in different lengths.
//!
//! Each begins with its own size, as the program was compiled with it. Of a shorter one the missing
//! fields have their defaults; of a longer one the fields unknown here must be zero, or what they
//! ask for would be silently left undone.

use super::buffers::target_of;
use super::status::{Failure, GPT2_ERROR_ARGUMENT, GPT2_ERROR_UNSUPPORTED, Outcome};

/// Types of fields: plain data, of which every pattern of bits is a value.
///
/// # Safety
/// That is so.
pub(super) unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($type:ty),*) => {
        $(
            // SAFETY: a number.
            unsafe impl Plain for $type {}
        )*
    };
}
plain!(u32, i32, u64, i64, usize, f32, f64);
// SAFETY: a pointer that only `buffers` follows.
unsafe impl<T> Plain for *const T {}

/// A structure of the interface: plain fields, the first of which is its size.
///
/// # Safety
/// `repr(C)`, all fields [`Plain`], the first a `usize`; `FIELDS` describes them all.
pub(super) unsafe trait Struct: Copy + Default {
    /// What C calls it.
    const NAME: &'static str;
    /// Every field: name, offset, size.
    const FIELDS: &'static [(&'static str, usize, usize)];
}

#[cfg(test)]
/// What a structure looks like in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// What C calls it.
    pub name: &'static str,
    /// Its size.
    pub size: usize,
    /// Every field: name, offset, size.
    pub fields: &'static [(&'static str, usize, usize)],
}

#[cfg(test)]
/// Every structure of the interface, for the test that the header says the same.
pub(crate) fn layouts() -> Vec<Layout> {
    fn layout<T: Struct>() -> Layout {
        Layout {
            name: T::NAME,
            size: size_of::<T>(),
            fields: T::FIELDS,
        }
    }
    vec![
        layout::<super::gpt2_model_options>(),
        layout::<super::gpt2_model_info>(),
        layout::<super::gpt2_session_options>(),
        layout::<super::gpt2_memory>(),
        layout::<super::gpt2_batch>(),
        layout::<super::gpt2_generate_options>(),
        layout::<super::gpt2_step>(),
        layout::<super::gpt2_continuation>(),
        layout::<super::gpt2_timings>(),
        layout::<super::gpt2_result>(),
        layout::<super::gpt2_score_options>(),
        layout::<super::gpt2_text_score>(),
        layout::<super::gpt2_token_score>(),
        layout::<super::gpt2_word_score>(),
        layout::<super::gpt2_perplexity_result>(),
        layout::<super::gpt2_convert_options>(),
    ]
}

/// Declares a structure with the defaults of its fields; with `init`, the function that sets them.
macro_rules! structure {
    ($(#[$documentation:meta])* $name:ident $(, init $init:ident)? {
        $($(#[$field_documentation:meta])* $field:ident: $type:ty = $default:expr,)*
    }) => {
        $(#[$documentation])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy)]
        #[cfg_attr(test, allow(unreachable_pub, reason = "tests declare some of their own"))]
        pub struct $name {
            /// The size of the structure as the program knows it.
            pub size: usize,
            $($(#[$field_documentation])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { size: size_of::<Self>(), $($field: $default,)* }
            }
        }

        // SAFETY: the fields' types are checked below, the rest is written out above.
        unsafe impl $crate::structs::Struct for $name {
            const NAME: &'static str = stringify!($name);
            const FIELDS: &'static [(&'static str, usize, usize)] = {
                const fn plain<T: $crate::structs::Plain>() -> usize {
                    size_of::<T>()
                }
                // A later version's field must not lie where an earlier one has padding, which is
                // not set: there is none at the end, and with pointers of 64 bits none at all.
                let ends = [$(std::mem::offset_of!($name, $field) + size_of::<$type>()),*];
                assert!(
                    size_of::<$name>() == ends[ends.len() - 1],
                    "structures of the interface have no padding at their end"
                );
                assert!(
                    cfg!(not(target_pointer_width = "64"))
                        || size_of::<$name>() == size_of::<usize>() $(+ size_of::<$type>())*,
                    "structures of the interface have no padding"
                );
                &[
                    ("size", 0, size_of::<usize>()),
                    $((stringify!($field), std::mem::offset_of!($name, $field), plain::<$type>()),)*
                ]
            };
        }

        $(
            /// Sets every field that fits into `size` bytes to its default.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $init(
                options: *mut $name,
                size: usize,
            ) -> $crate::gpt2_status {
                $crate::status::guard(|| {
                    // SAFETY: the caller gives a place of that size.
                    unsafe { $crate::structs::initialize(options, size) }
                })
            }
        )?
    };
}
pub(super) use structure;

/// Refuses a size that no version of the structure has had: all end with a whole field, none with
/// padding.
fn check_size<T: Struct>(size: usize) -> Outcome {
    let within = |(_, offset, bytes): &&(&str, usize, usize)| {
        (offset + 1..offset + bytes).contains(&size) || size == 0
    };
    match T::FIELDS.iter().find(within) {
        None => Ok(()),
        Some((field, ..)) => Err(Failure::new(
            GPT2_ERROR_ARGUMENT,
            format!(
                "{}.size: found {size}, which ends within the field {field}; set it to sizeof({}), \
                 or by its \
                 init function",
                T::NAME,
                T::NAME
            ),
        )),
    }
}

/// The options at `source`; null are the defaults.
///
/// # Safety
/// `source` is null or points at the size in bytes that its first field says.
pub(super) unsafe fn read<T: Struct>(source: *const T) -> Outcome<T> {
    let mut value = T::default();
    if source.is_null() {
        return Ok(value);
    }
    target_of(T::NAME, source.cast_mut())?;
    // SAFETY: not null and aligned; the first field is the size.
    let size = unsafe { source.cast::<usize>().read() };
    check_size::<T>(size)?;
    let bytes = source.cast::<u8>();
    for offset in size_of::<T>()..size {
        // SAFETY: within the size that the caller promises.
        if unsafe { bytes.add(offset).read() } != 0 {
            return Err(Failure::new(
                GPT2_ERROR_UNSUPPORTED,
                format!(
                    "{}: the program sets a field at offset {offset} that this version of the \
                     library, {}, does \
                     not know",
                    T::NAME,
                    env!("CARGO_PKG_VERSION")
                ),
            ));
        }
    }
    // SAFETY: both are that long; every pattern of bits is a value; the fields are copied whole.
    unsafe {
        (&raw mut value)
            .cast::<u8>()
            .copy_from_nonoverlapping(bytes, size.min(size_of::<T>()));
    }
    check_reserved(&value)?;
    Ok(value)
}

/// Refuses reserved fields that are not 0: a later version may give them a meaning.
fn check_reserved<T: Struct>(value: &T) -> Outcome {
    let bytes = (&raw const *value).cast::<u8>();
    let reserved = T::FIELDS
        .iter()
        .filter(|(name, ..)| name.starts_with("reserved"));
    for &(name, offset, size) in reserved {
        // SAFETY: the field's bytes, which are set: there is no padding in a field.
        if (offset..offset + size).any(|at| unsafe { bytes.add(at).read() } != 0) {
            return Err(Failure::argument(format!(
                "{}.{name}: expected 0, found another value; use the init function",
                T::NAME
            )));
        }
    }
    Ok(())
}

/// Sets the structure of `size` bytes at `target` to the defaults.
///
/// # Safety
/// `target` is null or writable for `size` bytes.
pub(super) unsafe fn initialize<T: Struct>(target: *mut T, size: usize) -> Outcome {
    target_of(T::NAME, target)?;
    check_size::<T>(size)?;
    // SAFETY: writable for `size` bytes.
    unsafe { store(target, T::default(), size) };
    Ok(())
}

/// Puts `value` at `target`, as much of it as the size there has room for; fields beyond are zero.
///
/// # Safety
/// `target` is null or writable for the size in bytes that its first field says.
pub(super) unsafe fn write<T: Struct>(target: *mut T, value: T) -> Outcome {
    target_of(T::NAME, target)?;
    // SAFETY: not null and aligned; the first field is the size.
    let size = unsafe { target.cast::<usize>().read() };
    check_size::<T>(size)?;
    // SAFETY: writable for `size` bytes.
    unsafe { store(target, value, size) };
    Ok(())
}

/// # Safety
/// `target` is writable for `size` bytes, a checked size.
unsafe fn store<T: Struct>(target: *mut T, value: T, size: usize) {
    let bytes = target.cast::<u8>();
    let known = size.min(size_of::<T>());
    // SAFETY: `known` is at most `size` and the size of `T`; the ranges are the caller's and ours.
    unsafe {
        bytes.copy_from_nonoverlapping((&raw const value).cast(), known);
        bytes.add(known).write_bytes(0, size - known);
        target.cast::<usize>().write(size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    structure! {
        /// Of today.
        gpt2_test_options {
            /// A number.
            number: u64 = 7,
            /// Another.
            real: f64 = 0.5,
            /// The newest.
            newest: u64 = 9,
        }
    }

    structure! {
        /// With room for what is to come.
        gpt2_test_reserve {
            /// A number.
            number: u32 = 7,
            /// Zero.
            reserved: u32 = 0,
        }
    }

    #[repr(C)]
    struct Older {
        size: usize,
        number: u64,
    }

    #[repr(C)]
    struct Newer {
        known: gpt2_test_options,
        unknown: u64,
    }

    fn code<T>(outcome: Outcome<T>) -> i32 {
        super::super::status::guard(|| outcome.map(drop))
    }

    #[test]
    fn an_older_programs_options_are_completed() {
        let older = Older {
            size: size_of::<Older>(),
            number: 3,
        };
        // SAFETY: as long as it says.
        let read = unsafe { read((&raw const older).cast::<gpt2_test_options>()) };
        let read = read.ok().unwrap();
        assert_eq!((read.number, read.real, read.newest), (3, 0.5, 9));
    }

    #[test]
    fn an_older_programs_memory_is_not_overrun() {
        let mut places = [0u64; 3];
        places[2] = u64::MAX;
        let target = places.as_mut_ptr().cast::<gpt2_test_options>();
        // SAFETY: two of the three numbers are given away.
        assert!(unsafe { initialize(target, 16) }.is_ok());
        assert_eq!(places, [16, 7, u64::MAX]);
    }

    #[test]
    fn a_newer_programs_wishes_are_refused_unless_they_are_none() {
        let mut newer = Newer {
            known: gpt2_test_options::default(),
            unknown: 0,
        };
        newer.known.size = size_of::<Newer>();
        // SAFETY: as long as it says.
        let read = |newer: &Newer| unsafe { read((&raw const *newer).cast::<gpt2_test_options>()) };
        assert_eq!(code(read(&newer)), 0);
        newer.unknown = 1 << 40;
        assert_eq!(code(read(&newer)), GPT2_ERROR_UNSUPPORTED);
        // And it is told nothing where the library has nothing to say.
        // SAFETY: as long as it says.
        unsafe {
            write(
                (&raw mut newer).cast::<gpt2_test_options>(),
                gpt2_test_options::default(),
            )
        }
        .ok()
        .unwrap();
        assert_eq!((newer.unknown, newer.known.size), (0, size_of::<Newer>()));
    }

    #[test]
    fn reserved_fields_that_are_set_are_refused() {
        let mut options = gpt2_test_reserve::default();
        // SAFETY: as long as it says.
        let read = |options: &gpt2_test_reserve| unsafe { read(&raw const *options) };
        assert_eq!(code(read(&options)), 0);
        options.reserved = 1 << 31;
        assert_eq!(code(read(&options)), GPT2_ERROR_ARGUMENT);
        // A program that knows no such field has not set it.
        options.size = 12;
        assert_eq!(code(read(&options)), 0);
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        for size in [0, 4, 9, 15, 17, 25, 31] {
            let options = gpt2_test_options {
                size,
                ..Default::default()
            };
            // SAFETY: longer than it says.
            let outcome = unsafe { read(&raw const options) };
            assert_eq!(code(outcome), GPT2_ERROR_ARGUMENT, "{size}");
        }
    }
}
