//! `convzoo doctor`.

use std::process::{Command, Output};

fn doctor(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convzoo"));
    command.arg("doctor").args(arguments).env_remove("CONVZOO_ISA");
    command.envs(environment.iter().copied()).output().expect("the binary runs")
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn every_op_is_right_in_every_form() {
    let output = doctor(&["--no-speed", "--json"], &[("CONVZOO_DATA", "nowhere")]);
    let report = json(&output);
    assert!(output.status.success(), "{report:#}");
    let facts = &report["facts"];
    assert_eq!(facts["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(facts["data"], serde_json::json!({ "path": "nowhere", "exists": false }));
    assert_eq!(facts["devices"][0]["name"], "cpu");
    assert!(facts["threads"].as_u64().is_some_and(|threads| threads > 0));
    let checks = report["checks"].as_array().expect("a list");
    let forms_of = |op: &str| {
        let own = checks.iter().filter(|check| check["op"] == op && check["device"] == "cpu");
        own.map(|check| check["form"].as_str().unwrap_or_default()).collect::<Vec<_>>()
    };
    for op in ["conv2d", "max_pool2d", "batch_norm2d", "batch_norm2d_eval", "linear", "dropout"] {
        assert_eq!(forms_of(op), ["definition", "kernel", "portable", "portable bf16"], "{op}");
    }
    assert_eq!(forms_of("network"), ["kernel"]);
    for check in checks {
        assert_eq!(check["outcome"], "passed", "{check:#}");
    }
    assert_eq!(report["speed"], serde_json::json!([]));
}

#[test]
fn a_setting_that_does_nothing_is_a_problem() {
    let output = doctor(&["--no-speed"], &[("CONVZOO_ISA", "avx1024")]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("problem: CONVZOO_ISA=avx1024: on this machine it takes"), "{text}");
    assert!(text.contains("conv2d"), "{text}");
}
