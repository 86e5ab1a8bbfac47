//! Docker's JSON language for seccomp profiles, a superset of the OCI filter.
//!
//! ```json
//! { "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
//!   "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
//!   "flags": ["SECCOMP_FILTER_FLAG_LOG"],
//!   "syscalls": [{ "names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "errnoRet": null,
//!                  "args": [{"index": 0, "value": 0, "valueTwo": 0, "op": "SCMP_CMP_EQ"}],
//!                  "includes": {"caps": ["CAP_SYS_PTRACE"], "arches": ["amd64"], "minKernel": "4.8"},
//!                  "excludes": {"caps": [], "arches": [], "minKernel": ""} }] }
//! ```
//!
//! `architectures` may stand instead of `archMap`, and `name` (the older form) instead of `names`. Unknown keys are ignored.

use std::path::PathBuf;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
    LinuxSyscall, LinuxSyscallBuilder,
};
use serde::{Deserialize, Deserializer};

use super::Context;

/// Why a seccomp profile is refused.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It isn't JSON, or not of this shape. The cause is part of the text, as in Docker's answer.
    #[error("Decoding seccomp profile failed: {0}")]
    Decode(serde_json::Error),
    /// Two ways to name the architectures.
    #[error(
        "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'"
    )]
    Architectures,
    /// Two ways to name the system calls.
    #[error("both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'")]
    Names,
    /// Rules without a default.
    #[error("the seccomp profile has rules, but no defaultAction")]
    DefaultAction,
    /// The rule can't be written as OCI.
    #[error("writing the seccomp rule failed")]
    Rule(#[from] OciSpecError),
}

/// A whole profile.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Profile {
    #[serde(default, deserialize_with = "empty_is_none")]
    default_action: Option<LinuxSeccompAction>,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<Arch>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<LinuxSeccompFilterFlag>>,
    listener_path: Option<PathBuf>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: Arch,
    sub_architectures: Option<Vec<Arch>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    args: Option<Vec<Arg>>,
    includes: Option<Conditions>,
    excludes: Option<Conditions>,
}

/// An argument condition; Go's zero values stand for what is left out.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Arg {
    #[serde(default)]
    index: usize,
    #[serde(default)]
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: LinuxSeccompOperator,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Conditions {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<KernelVersion>,
}

impl Profile {
    pub(super) fn parse(json: &str) -> Result<Self, ProfileError> {
        serde_json::from_str(json).map_err(ProfileError::Decode)
    }

    /// The OCI filter, or `None` for an empty profile.
    pub(super) fn into_oci(
        self,
        context: &Context,
        native: Option<Arch>,
    ) -> Result<Option<LinuxSeccomp>, ProfileError> {
        let rules = self.syscalls.unwrap_or_default();
        let Some(default_action) = self.default_action else {
            return if rules.is_empty() { Ok(None) } else { Err(ProfileError::DefaultAction) };
        };
        let map = self.arch_map.unwrap_or_default();
        let mut architectures = self.architectures.unwrap_or_default();
        if !architectures.is_empty() && !map.is_empty() {
            return Err(ProfileError::Architectures);
        }
        if let Some(entry) = map.into_iter().find(|entry| Some(entry.architecture) == native) {
            architectures.push(entry.architecture);
            architectures.extend(entry.sub_architectures.unwrap_or_default());
        }
        let mut syscalls = Vec::new();
        for rule in rules {
            syscalls.extend(rule.into_oci(context)?);
        }
        let mut filter = LinuxSeccomp::default();
        filter
            .set_default_action(default_action)
            .set_default_errno_ret(self.default_errno_ret)
            .set_architectures((!architectures.is_empty()).then_some(architectures))
            .set_flags(self.flags)
            .set_listener_path(self.listener_path)
            .set_listener_metadata(self.listener_metadata)
            .set_syscalls(Some(syscalls));
        Ok(Some(filter))
    }
}

impl Rule {
    fn into_oci(self, context: &Context) -> Result<Option<LinuxSyscall>, ProfileError> {
        let names = match (self.name.filter(|name| !name.is_empty()), self.names.unwrap_or_default()) {
            (Some(_), names) if !names.is_empty() => return Err(ProfileError::Names),
            (Some(name), _) => vec![name],
            (None, names) => names,
        };
        let excluded = self.excludes.is_some_and(|conditions| conditions.any(context));
        let included = self.includes.is_none_or(|conditions| conditions.all(context));
        if excluded || !included {
            return Ok(None);
        }
        let mut rule = LinuxSyscallBuilder::default().names(names).action(self.action).build()?;
        rule.set_errno_ret(self.errno_ret);
        let args = self.args.unwrap_or_default().iter().map(Arg::to_oci).collect::<Result<Vec<_>, _>>()?;
        rule.set_args((!args.is_empty()).then_some(args));
        Ok(Some(rule))
    }
}

impl Arg {
    fn to_oci(&self) -> Result<LinuxSeccompArg, OciSpecError> {
        oci_spec::runtime::LinuxSeccompArgBuilder::default()
            .index(self.index)
            .value(self.value)
            .value_two(self.value_two)
            .op(self.op)
            .build()
    }
}

impl Conditions {
    /// One of the conditions holds: a rule with these as `excludes` is left out.
    fn any(&self, context: &Context) -> bool {
        self.caps().iter().any(|name| context.caps.contains(name))
            || self.arches().iter().any(|name| name == context.arch)
            || self.kernel().is_some_and(|version| context.kernel >= version)
    }

    /// All conditions hold that are there: a rule with these as `includes` counts.
    fn all(&self, context: &Context) -> bool {
        self.caps().iter().all(|name| context.caps.contains(name))
            && (self.arches().is_empty() || self.arches().iter().any(|name| name == context.arch))
            && self.kernel().is_none_or(|version| context.kernel >= version)
    }

    fn caps(&self) -> &[String] {
        self.caps.as_deref().unwrap_or_default()
    }

    fn arches(&self) -> &[String] {
        self.arches.as_deref().unwrap_or_default()
    }

    fn kernel(&self) -> Option<(u32, u32)> {
        self.min_kernel.as_ref().and_then(|version| version.0)
    }
}

/// `<kernel>.<major>`, such as `4.8`; an empty string is no condition.
struct KernelVersion(Option<(u32, u32)>);

impl<'de> Deserialize<'de> for KernelVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self(None));
        }
        let part = |part: &str| part.parse::<u8>().ok().map(u32::from);
        let version = text.split_once('.').and_then(|(kernel, major)| Some((part(kernel)?, part(major)?)));
        match version.filter(|version| *version != (0, 0)) {
            Some(version) => Ok(Self(Some(version))),
            None => Err(serde::de::Error::custom(format!(
                "invalid kernel version: \"{text}\", expected \"<kernel>.<major>\""
            ))),
        }
    }
}

fn empty_is_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<LinuxSeccompAction>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    match text.filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| serde::de::Error::custom(format!("{text} is not a valid action for seccomp"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caps::CapSet;

    fn load(json: &str) -> Result<Option<LinuxSeccomp>, ProfileError> {
        let caps: CapSet = ["CAP_CHOWN"].into_iter().collect();
        let context = Context { caps, arch: "amd64", kernel: (5, 10) };
        Profile::parse(json)?.into_oci(&context, Some(Arch::ScmpArchX86_64))
    }

    fn rule_kept(conditions: &str, expect: bool) {
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["read"],"action":"SCMP_ACT_ALLOW",{conditions}}}]}}"#
        );
        assert_eq!(load(&json).unwrap().unwrap().syscalls().as_ref().unwrap().len() == 1, expect, "{conditions}");
    }

    #[test]
    fn conditions_choose_rules() {
        rule_kept(r#""args":null"#, true);
        rule_kept(r#""includes":{"caps":["CAP_CHOWN"]}"#, true);
        rule_kept(r#""includes":{"caps":["CAP_CHOWN","CAP_BPF"]}"#, false);
        rule_kept(r#""excludes":{"caps":["CAP_BPF","CAP_CHOWN"]}"#, false);
        rule_kept(r#""includes":{"arches":["arm64","amd64"]}"#, true);
        rule_kept(r#""includes":{"arches":["arm64"]}"#, false);
        rule_kept(r#""excludes":{"arches":["amd64"]}"#, false);
        rule_kept(r#""includes":{"minKernel":"5.10"}"#, true);
        rule_kept(r#""includes":{"minKernel":"5.11"}"#, false);
        rule_kept(r#""excludes":{"minKernel":"4.8"}"#, false);
        rule_kept(r#""includes":{},"excludes":{},"comment":"x""#, true);
    }

    #[test]
    fn old_and_new_forms() {
        let filter = load(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,
                "archMap":[{"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]},
                           {"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
                "syscalls":[{"name":"clone","action":"SCMP_ACT_ERRNO","errnoRet":1,
                             "args":[{"index":0,"value":2114060288,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#,
        )
        .unwrap()
        .unwrap();
        assert_eq!(filter.architectures().clone().unwrap(), [Arch::ScmpArchX86_64, Arch::ScmpArchX86]);
        let rule = &filter.syscalls().as_ref().unwrap()[0];
        assert_eq!((rule.names()[0].as_str(), rule.errno_ret()), ("clone", Some(1)));
        assert_eq!(rule.args().as_ref().unwrap()[0].value_two(), Some(0));
    }

    #[test]
    fn refusals() {
        let check = |json: &str, expect: &str| {
            let error = load(json).unwrap_err().to_string();
            assert!(error.starts_with(expect), "{error}");
        };
        check("nonsense", "Decoding seccomp profile failed: ");
        check(r#"{"defaultAction":"SCMP_ACT_WHAT"}"#, "Decoding seccomp profile failed: SCMP_ACT_WHAT is not");
        check(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],
                "archMap":[{"architecture":"SCMP_ARCH_X86"}]}"#,
            "both 'architectures' and 'archMap'",
        );
        check(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ALLOW"}]}"#,
            "both 'name' and 'names'",
        );
        check(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
                {"names":["b"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"5"}}]}"#,
            "Decoding seccomp profile failed: invalid kernel version: \"5\"",
        );
        assert!(load("{}").unwrap().is_none());
    }
}
