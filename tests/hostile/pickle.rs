//! Broken `pytorch_model.bin` files, and ones that would run code if they were unpickled.

use super::bin::{archives, streams, views};
use super::tiny::Files;
use super::writers::{Bin, ELEMENTS, Lie, Pickle, weights};
use super::{FolderCase, HostileFolder, folders, lacking};

/// Folders whose weights are refused.
pub(crate) fn pickle_cases() -> Vec<HostileFolder> {
    let tables = [
        globals(),
        programs(),
        state_dicts(),
        views(),
        archives(),
        streams(),
    ];
    folders(tables.into_iter().flatten())
}

/// The folder the cases are made from, as an archive.
pub(crate) fn valid_archive() -> Files {
    file(bin(false).zip(false))
}

/// The same as a stream.
pub(crate) fn valid_stream() -> Files {
    file(bin(true).stream())
}

pub(super) fn bin(legacy: bool) -> Bin {
    Bin::new(&weights(), ELEMENTS[0], Lie::Own, legacy)
}

pub(super) fn file(bytes: impl Into<Vec<u8>>) -> Files {
    let mut files = lacking("model.safetensors");
    files.insert("pytorch_model.bin".to_owned(), bytes.into());
    files
}

/// The valid archive with another pickle.
pub(super) fn pickled(pickle: Pickle) -> Files {
    let mut bin = bin(false);
    bin.pickle = pickle.0;
    file(bin.zip(false))
}

fn raw(bytes: &[u8]) -> Files {
    pickled(Pickle::new().raw(bytes))
}

fn globals() -> Vec<FolderCase> {
    let call = |module: &str, name: &str| {
        let command = Pickle::new()
            .global(module, name)
            .raw(b"(")
            .text("touch ran");
        pickled(command.raw(b"tR."))
    };
    let long = "x".repeat(100_000);
    let by_stack = Pickle::new().text("builtins").text("eval").raw(b"\x93)R.");
    vec![
        (
            "a shell command",
            call("os", "system"),
            "pickle asks for 'os.system': not a state dict",
        ),
        (
            "the same under its other name",
            call("posix", "system"),
            "'posix.system'",
        ),
        ("an evaluation", pickled(by_stack), "'builtins.eval'"),
        (
            "another pickle",
            call("torch.storage", "_load_from_bytes"),
            "_load_from_bytes",
        ),
        (
            "a class made by name",
            raw(b"(ios\nsystem\n."),
            "'os.system'",
        ),
        (
            "an attribute of a class",
            call("collections", "OrderedDict.fromkeys"),
            "fromkeys",
        ),
        (
            "a module inside an allowed one",
            call("torch.", "FloatStorage"),
            "torch..FloatStorage",
        ),
        (
            "a storage of complex numbers",
            call("torch", "ComplexFloatStorage"),
            "ComplexFloatStorage",
        ),
        (
            "a name with control characters",
            call("\u{1b}[2J\r", "x"),
            "the pickle asks for '",
        ),
        (
            "a name of 100000 letters",
            call(&long, &long),
            "the pickle asks for 'xxxx",
        ),
        (
            "a name without an end",
            raw(b"cos"),
            "a name without an end",
        ),
        ("a name not in UTF-8", raw(b"c\xff\nx\n."), "no UTF-8"),
        ("a global by number", raw(b"\x82\x01."), "instruction 0x82"),
        (
            "a reference in text",
            raw(b"Pstorage\n."),
            "instruction 0x50",
        ),
        (
            "a class that is called",
            raw(b"ctorch\nFloatStorage\n)R."),
            "not called",
        ),
        (
            "attributes for a number",
            raw(b"K\x01}b."),
            "attributes for something",
        ),
    ]
}

fn programs() -> Vec<FolderCase> {
    let nested: Vec<u8> = [&b")"[..], &vec![0x85; 600_000], b"."].concat();
    let deep: Vec<u8> = [&b"]("[..]].concat().repeat(300_000);
    let wide: Vec<u8> = [&b"("[..], &vec![b'N'; 600_000], b"t."].concat();
    // A list of 100,000 pairs, turned into a dictionary 100,000 times.
    let pairs = [&b"]q\0("[..], &b"K\x01K\x02\x86".repeat(100_000), b"e0"].concat();
    let doubled = [
        pairs,
        b"ccollections\nOrderedDict\nh\0\x85R0".repeat(100_000),
        b"N.".to_vec(),
    ];
    vec![
        ("no pickle", raw(b""), "the file is truncated"),
        (
            "a pickle without an end",
            raw(b"}"),
            "the file is truncated",
        ),
        ("an end and nothing before", raw(b"."), "the stack is empty"),
        ("an unknown instruction", raw(b"\xff."), "instruction 0xff"),
        ("a pop of nothing", raw(b"0."), "the stack is empty"),
        ("a pop below a mark", raw(b"N(0."), "the stack is empty"),
        ("a tuple without a mark", raw(b"t."), "there is no mark"),
        (
            "a tuple of three of two",
            raw(b"NN\x87."),
            "the stack is empty",
        ),
        ("a memory of nothing", raw(b"h\x05."), "the memo has no 5"),
        (
            "a memory far away",
            raw(b"Nr\xff\xff\xff\xff0j\xfe\xff\xff\xff."),
            "the memo has no",
        ),
        (
            "a key without a value",
            raw(b"}(Nu."),
            "a key without a value",
        ),
        ("entries for a list", raw(b"]NNs."), "no dictionary"),
        ("items for a dictionary", raw(b"}Na."), "no list"),
        (
            "a text of 4 GB",
            raw(b"X\xff\xff\xff\xffabc."),
            "4294967295 bytes are announced",
        ),
        (
            "a text of 2^64-1 bytes",
            raw(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff."),
            "bytes are announced",
        ),
        (
            "a text not in UTF-8",
            raw(b"X\x02\0\0\0\xff\xfe."),
            "a string is not UTF-8",
        ),
        (
            "a number of 2 GB",
            raw(b"\x8b\xff\xff\xff\x7f\x01."),
            "bytes are announced",
        ),
        (
            "a frame that is not there",
            raw(b"\x95\xff"),
            "the file is truncated",
        ),
        (
            "tuples nested 600000 times",
            raw(&nested),
            "more than 524288 values",
        ),
        (
            "lists nested 300000 times",
            raw(&deep),
            "more than 524288 values",
        ),
        ("a tuple of 600000", raw(&wide), "more than 524288 values"),
        (
            "dictionaries of dictionaries",
            raw(&doubled.concat()),
            "more than 524288 values",
        ),
        (
            "a dictionary of no pairs",
            raw(b"ccollections\nOrderedDict\n](Ne\x85R."),
            "a dictionary of arguments",
        ),
        ("a reference to no storage", raw(b")Q."), "no storage"),
        (
            "a tensor of nothing",
            raw(b"ctorch._utils\n_rebuild_tensor_v2\n)R."),
            "a tensor of arguments",
        ),
        (
            "a parameter of nothing",
            raw(b"ctorch._utils\n_rebuild_parameter\n)R."),
            "a parameter of arguments",
        ),
    ]
}

fn state_dicts() -> Vec<FolderCase> {
    let under =
        |key: &str, value: &[u8]| pickled(Pickle::new().raw(b"}").text(key).raw(value).raw(b"s."));
    let mut twice = weights();
    twice.push(twice[3].clone());
    let mut missing = weights();
    missing.remove(5);
    let of = |weights: &[_]| file(Bin::new(weights, ELEMENTS[0], Lie::Own, false).zip(false));
    let mut prefixed = weights();
    let mut again = prefixed[0].clone();
    again.name = format!("transformer.{}", again.name);
    prefixed.push(again);
    vec![
        (
            "a number for a state dict",
            raw(b"K\x01."),
            "the pickle is a number",
        ),
        (
            "a list for a state dict",
            raw(b"]."),
            "the pickle is a list",
        ),
        (
            "an empty state dict",
            raw(b"}."),
            "is this a GPT-2 checkpoint?",
        ),
        (
            "a training checkpoint without a model",
            under("state_dict", b"}"),
            "dictionary of state_dict; none of it is the state dict of a GPT-2",
        ),
        (
            "a dictionary in itself",
            raw(b"}\x94\x8c\x01ah\0s."),
            "dictionary of a; none of it is",
        ),
        (
            "dictionaries in dictionaries",
            pickled(
                Pickle::new().raw(
                    &[
                        b"}\x8c\x01a".repeat(90_000),
                        b"N".to_vec(),
                        b"s".repeat(90_000),
                        b".".to_vec(),
                    ]
                    .concat(),
                ),
            ),
            "none of it is the state dict",
        ),
        (
            "a storage inside an archive's pickle",
            raw(b"ctorch.storage\n_load_from_bytes\n(C\x03abctR."),
            "expected PyTorch's stream",
        ),
        (
            "an object of the script",
            raw(b"c__main__\nGPT\n)\x81}b."),
            "the pickle is an object",
        ),
        (
            "an epoch among tensors",
            under("epoch", b"K\x07"),
            "under 'epoch', found a number",
        ),
        (
            "a key that is a number",
            raw(b"}K\x01Ns."),
            "a number for a name",
        ),
        (
            "a name of 300 bytes",
            under(&"n".repeat(300), b"N"),
            "at most 256 bytes",
        ),
        ("a tensor twice", of(&twice), "appears twice"),
        (
            "a tensor with and without prefix",
            of(&prefixed),
            "with and without the prefix",
        ),
        (
            "a tensor missing",
            of(&missing),
            "missing from the checkpoint",
        ),
    ]
}
