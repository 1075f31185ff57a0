//! The parts of the build script that can be tested by themselves.

#[allow(dead_code, reason = "the build script reads more of it")]
#[path = "../vendor/backends.rs"]
mod backends;
#[allow(dead_code, reason = "the build script reads more of it")]
#[path = "../vendor/plan.rs"]
mod plan;
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

/// The plan of what cmake and the linker are told, for a target that this machine need not be.
fn plan_for(system: &str, features: &[&str]) -> Result<Option<plan::Plan>, String> {
    plan::plan(
        backends::enabled(|feature| features.contains(&feature)),
        system,
    )
}

#[test]
fn metal_on_a_mac() {
    let plan = plan_for("macos", &["metal"]).unwrap().unwrap();
    assert_eq!(plan.targets, ["ggml-metal"]);
    assert_eq!(
        plan.libraries,
        ["Foundation", "Metal", "MetalKit"].map(plan::Library::Framework)
    );
    for option in [
        ("GGML_METAL", "ON"),
        ("GGML_METAL_EMBED_LIBRARY", "ON"),
        ("GGML_BLAS", "OFF"),
        ("GGML_CPU", "OFF"),
        ("BUILD_SHARED_LIBS", "OFF"),
        ("CMAKE_POSITION_INDEPENDENT_CODE", "ON"),
    ] {
        assert!(plan.options.contains(&option), "{option:?}");
    }
    let mut names: Vec<_> = plan.options.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    assert!(
        names.is_sorted_by(|a, b| a < b),
        "an option twice: {names:?}"
    );
    assert!(plan.needs[0].contains("xcode-select"), "{:?}", plan.needs);

    let ggml = "/ggml";
    let wrapper = plan::wrapper(ggml, &plan.targets);
    assert!(
        wrapper.contains("add_subdirectory(\"/ggml\" ggml)"),
        "{wrapper}"
    );
    assert!(wrapper.contains("DEPENDS ggml-metal)"), "{wrapper}");
    let metal = backends::enabled(|feature| feature == "metal").find(|known| known.name == "metal");
    assert_eq!(metal.unwrap().define, "GGML_USE_METAL");
}

#[test]
fn a_backend_is_refused_where_it_does_not_exist() {
    for (system, feature) in [("linux", "metal"), ("macos", "cuda"), ("android", "metal")] {
        let message = plan_for(system, &[feature]).unwrap_err();
        assert!(
            message.contains(feature) && message.contains(system),
            "{message}"
        );
    }
}

#[test]
fn libraries_follow_the_system() {
    use plan::Library::{Framework, System};
    for (system, features, libraries) in [
        ("linux", &["vulkan"][..], &[System("vulkan")][..]),
        ("windows", &["vulkan"], &[System("vulkan-1")]),
        ("linux", &["blas"], &[System("openblas")]),
        ("macos", &["blas"], &[Framework("Accelerate")]),
        (
            "linux",
            &["cuda"],
            &[System("cudart"), System("cublas"), System("cuda")],
        ),
    ] {
        let plan = plan_for(system, features).unwrap().unwrap();
        assert_eq!(plan.libraries, libraries, "{system} {features:?}");
    }
    let cuda = plan_for("linux", &["cuda"]).unwrap().unwrap();
    assert!(
        cuda.search
            .iter()
            .any(|(root, folders)| *root == "/usr/local/cuda" && folders.contains(&"lib64/stubs"))
    );
    let both = plan_for("linux", &["vulkan", "blas"]).unwrap().unwrap();
    assert_eq!(both.targets, ["ggml-vulkan", "ggml-blas"]);
    assert!(both.options.contains(&("GGML_BLAS_VENDOR", "OpenBLAS")));
}

/// What the plain build stands on: nothing of it may come to need cmake.
#[test]
fn the_plain_build_needs_no_cmake() {
    assert_eq!(plan_for("linux", &[]), Ok(None));
    assert_eq!(plan_for("macos", &["rpc", "openmp", "native"]), Ok(None));
    let names: Vec<_> = backends::enabled(|_| false)
        .map(|known| known.name)
        .collect();
    assert_eq!(names, ["cpu"]);
}

/// The files that the plans and tables name are there in the ggml that is built, where cargo
/// unpacked it.
#[test]
fn the_files_named_are_in_the_sources() {
    let Some(root) = sources() else {
        println!("skipped: ggml's sources are not in cargo's cache");
        return;
    };
    for backend in backends::BACKENDS {
        let units = backend.units.iter().flat_map(|unit| unit.files);
        let planned = backend.cmake.iter().flat_map(|cmake| cmake.files);
        for file in units.chain(planned) {
            let own = file
                .starts_with("vendor/")
                .then(|| std::path::PathBuf::from(file));
            let path = own.unwrap_or_else(|| root.join("src").join(file.replace("{arch}", "x86")));
            assert!(path.exists(), "{}", path.display());
        }
        if let Some(cmake) = backend.cmake {
            let folder = root.join("src").join(cmake.target);
            let text = std::fs::read_to_string(folder.join("CMakeLists.txt")).unwrap();
            assert!(text.contains(&format!("ggml_add_backend_library({}", cmake.target)));
            for file in cmake.files.iter().filter(|file| file.contains('.')) {
                let name = file.rsplit('/').next().unwrap();
                assert!(text.contains(name), "{} does not name {name}", cmake.target);
            }
            for (_, libraries) in cmake.libraries {
                for library in *libraries {
                    if let plan::Library::Framework(name) = library {
                        // Accelerate is found by cmake's own module.
                        assert!(*name == "Accelerate" || text.contains(name), "{name}");
                    }
                }
            }
        }
    }
    for unit in backends::BASE {
        for file in unit.files {
            assert!(root.join("src").join(file).exists(), "{file}");
        }
    }
}

/// The folder of ggml in cargo's cache, or the user's own.
fn sources() -> Option<std::path::PathBuf> {
    if let Some(folder) = std::env::var_os("GGML_SOURCE_DIR") {
        return Some(folder.into());
    }
    let home = std::env::var_os("CARGO_HOME").map(std::path::PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")))?;
    let indices = std::fs::read_dir(home.join("registry/src")).ok()?;
    let version = include_str!("../vendor/ggml.lock")
        .split_once("name = \"llama-cpp-sys-4\"\nversion = \"")
        .and_then(|(_, rest)| rest.split('"').next())?;
    indices
        .filter_map(|index| Some(index.ok()?.path()))
        .map(|index| index.join(format!("llama-cpp-sys-4-{version}/llama.cpp/ggml")))
        .find(|folder| folder.is_dir())
}
