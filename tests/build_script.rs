//! The parts of the build script that can be tested by themselves.

#[path = "../vendor/sha256.rs"]
mod sha256;

/// The examples of FIPS 180-4, and every way the length can fall in the last block.
#[test]
fn sha256_of_known_messages() {
    let long = vec![b'a'; 1_000_000];
    let known: [(&[u8], &str); 6] = [
        (
            b"",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
        (
            b"abc",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
        (
            &long[..55],
            "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318",
        ),
        (
            &long[..64],
            "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb",
        ),
        (
            &long,
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
        ),
    ];
    for (message, digest) in known {
        assert_eq!(
            sha256::hex(message),
            digest,
            "message of {} bytes",
            message.len()
        );
    }
}
