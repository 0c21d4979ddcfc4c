//! Every shader as it is composed at run time, validated by naga; layouts compared with Rust's.

use std::mem::offset_of;
use understudy::format::BlockType;
use understudy::gpu::kernels::{Access, Kernel, Kinds, compose};
use understudy::gpu::{State, Tier};
use understudy::model::CacheType;

const BLOCK_TYPES: [BlockType; 28] = BlockType::ALL;

fn parse(kernel: Kernel, kinds: Kinds, tier: Tier) -> naga::Module {
    let source = compose(kernel, kinds, tier, false);
    let module = naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|e| panic!("{} {kinds:?}: {}", kernel.name(), e.emit_to_string(&source)));
    use naga::valid::Capabilities as Can;
    let capabilities = Can::SUBGROUP | Can::SHADER_FLOAT16_IN_FLOAT32;
    naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities)
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(naga::valid::SubgroupOperationSet::all())
        .validate(&module)
        .unwrap_or_else(|e| panic!("{} {kinds:?}: {}", kernel.name(), e.emit_to_string(&source)));
    module
}

fn all() -> Vec<(Kernel, Kinds, Tier)> {
    let mut all = Vec::new();
    for kernel in Kernel::ALL {
        let kinds: Vec<Kinds> = if kernel.reads_weights() {
            BLOCK_TYPES.iter().map(|t| Some(*t).into()).collect()
        } else if kernel.uses_cache() {
            CacheType::ALL.map(Kinds::from).to_vec()
        } else {
            vec![Kinds::default()]
        };
        for kinds in kinds {
            for subgroups in [false, true] {
                all.push((kernel, kinds, Tier { subgroups }));
            }
        }
    }
    all
}

#[test]
fn every_composed_shader_is_valid() {
    let all = all();
    for (kernel, kinds, tier) in &all {
        let module = parse(*kernel, *kinds, *tier);
        assert_eq!(module.entry_points.len(), 1);
        assert_eq!(module.entry_points[0].name, "main");
    }
    println!("{} compositions are valid", all.len());
}

#[test]
fn bindings_are_as_the_table_says() {
    for (kernel, kinds, tier) in all() {
        let module = parse(kernel, kinds, tier);
        let mut found: Vec<_> = module
            .global_variables
            .iter()
            .filter_map(|(_, v)| {
                let naga::AddressSpace::Storage { access } = v.space else {
                    return None;
                };
                let binding = v.binding.as_ref()?;
                assert_eq!(binding.group, 0);
                let write = access.contains(naga::StorageAccess::STORE);
                Some((binding.binding, if write { Access::Write } else { Access::Read }))
            })
            .collect();
        found.sort_by_key(|(binding, _)| *binding);
        let expected: Vec<_> = kernel
            .bindings()
            .iter()
            .enumerate()
            .map(|(i, a)| (i as u32, *a))
            .collect();
        assert_eq!(found, expected, "{}", kernel.name());
        assert!(found.len() <= 8, "WebGPU promises eight storage buffers");
    }
}

#[test]
fn state_has_the_layout_of_its_struct() {
    let module = parse(Kernel::Sample, Kinds::default(), Tier::default());
    let (members, span) = module
        .types
        .iter()
        .find_map(|(_, t)| match &t.inner {
            naga::TypeInner::Struct { members, span } if t.name.as_deref() == Some("State") => Some((members, *span)),
            _ => None,
        })
        .expect("the shader has a State");
    let found: Vec<_> = members
        .iter()
        .map(|m| (m.name.clone().unwrap_or_default(), m.offset as usize))
        .collect();
    let expected = [
        ("position", offset_of!(State, position)),
        ("rows", offset_of!(State, rows)),
        ("head_row", offset_of!(State, head_row)),
        ("draw", offset_of!(State, draw)),
        ("seed", offset_of!(State, seed)),
        ("top_k", offset_of!(State, top_k)),
        ("temperature", offset_of!(State, temperature)),
        ("top_p", offset_of!(State, top_p)),
        ("min_p", offset_of!(State, min_p)),
        ("typical_p", offset_of!(State, typical_p)),
    ];
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, offset)| (name.to_string(), *offset))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(span as usize, size_of::<State>());
}

#[test]
fn every_file_of_the_shader_folder_is_in_the_table() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/shaders");
    let names: Vec<_> = std::fs::read_dir(root)
        .unwrap()
        .filter_map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()?
                .strip_suffix(".wgsl")
                .map(str::to_string)
        })
        .collect();
    assert_eq!(names.len(), Kernel::ALL.len());
    for name in &names {
        let kernel = Kernel::ALL
            .iter()
            .find(|k| k.name() == name)
            .unwrap_or_else(|| panic!("{name} has no row"));
        // The head comment: formula, shapes, what a workgroup and a thread do, accumulation.
        let source = std::fs::read_to_string(format!("{root}/{name}.wgsl")).unwrap();
        let head = source.lines().take_while(|line| line.starts_with("//")).count();
        assert!((3..=9).contains(&head), "{name} has a head comment of {head} lines");
        assert!(
            source.starts_with(&format!("// {}", kernel.name())),
            "{name} starts with its formula"
        );
        let twin = format!("{}/src/cpu/{}.rs", env!("CARGO_MANIFEST_DIR"), kernel.twin());
        assert!(std::path::Path::new(&twin).exists(), "{name} has no twin");
    }
    for entry in std::fs::read_dir(format!("{root}/lib")).unwrap() {
        let name = entry.unwrap().file_name().to_str().unwrap().to_string();
        let used = all().into_iter().any(|(kernel, kinds, tier)| {
            let text = std::fs::read_to_string(format!("{root}/lib/{name}")).unwrap();
            compose(kernel, kinds, tier, false).contains(&text)
        });
        assert!(used, "{name} is joined nowhere");
    }
}
