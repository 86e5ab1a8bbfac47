//! Members that the API leaves out where they are empty, but that Docker's templates know all the same.
//!
//! Docker runs `inspect --format` over typed values: `{{.Name}}` of a bind is empty there, not an error. Here the values
//! are the JSON itself, so an object that is known by two of its members gets what it lacks, with Go's zero value.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;

/// A Go zero value.
#[derive(Clone, Copy)]
enum Zero {
    Text,
    Number,
    False,
    Nil,
    List,
    Map,
}

struct Type {
    /// Members that only objects of this type have together.
    marks: [&'static str; 2],
    omitted: &'static [(&'static str, Zero)],
}

const TYPES: &[Type] = &[
    // A container.
    Type {
        marks: ["HostConfig", "RestartCount"],
        omitted: &[("SizeRw", Zero::Nil), ("SizeRootFs", Zero::Nil), ("ImageManifestDescriptor", Zero::Nil)],
    },
    Type { marks: ["OOMKilled", "FinishedAt"], omitted: &[("Health", Zero::Nil)] },
    Type { marks: ["Destination", "RW"], omitted: &[("Name", Zero::Text), ("Driver", Zero::Text)] },
    Type {
        marks: ["AttachStdin", "OpenStdin"],
        omitted: &[
            ("ArgsEscaped", Zero::False),
            ("ExposedPorts", Zero::Map),
            ("Healthcheck", Zero::Nil),
            ("MacAddress", Zero::Text),
            ("NetworkDisabled", Zero::False),
            ("Shell", Zero::List),
            ("StopSignal", Zero::Text),
            ("StopTimeout", Zero::Nil),
        ],
    },
    Type {
        marks: ["RestartPolicy", "NetworkMode"],
        omitted: &[
            ("Annotations", Zero::Map),
            ("Init", Zero::Nil),
            ("KernelMemory", Zero::Number),
            ("KernelMemoryTCP", Zero::Number),
            ("Mounts", Zero::List),
            ("Runtime", Zero::Text),
            ("StorageOpt", Zero::Map),
            ("Sysctls", Zero::Map),
            ("Tmpfs", Zero::Map),
        ],
    },
    // An image.
    Type {
        marks: ["RepoTags", "RootFS"],
        omitted: &[
            ("Comment", Zero::Text),
            ("Descriptor", Zero::Nil),
            ("Manifests", Zero::List),
            ("OsVersion", Zero::Text),
            ("Variant", Zero::Text),
        ],
    },
    // A volume.
    Type {
        marks: ["Mountpoint", "Scope"],
        omitted: &[
            ("ClusterVolume", Zero::Nil),
            ("CreatedAt", Zero::Text),
            ("Status", Zero::Map),
            ("UsageData", Zero::Nil),
        ],
    },
];

/// Adds what an object of a known type lacks.
pub(crate) fn complete(object: &mut BTreeMap<Arc<str>, Value>) {
    let of_this = |kind: &&Type| kind.marks.iter().all(|mark| object.contains_key(*mark));
    let Some(kind) = TYPES.iter().find(of_this) else { return };
    for (name, zero) in kind.omitted {
        object.entry((*name).into()).or_insert_with(|| value(*zero));
    }
}

fn value(zero: Zero) -> Value {
    match zero {
        Zero::Text => Value::String("".into()),
        Zero::Number => Value::Int(0),
        Zero::False => Value::Bool(false),
        Zero::Nil => Value::Nil,
        Zero::List => Value::List(Vec::new().into()),
        Zero::Map => Value::Map(Arc::default()),
    }
}
