//! `loom isa` on the compilers of two GPUs. Without `mesa26` of `tools/drivers` the test is ignored, and says so.

use std::path::PathBuf;
use std::process::Command;

use libtest_mimic::{Arguments, Failed, Trial};

/// Sums of products, and a branch that its number marks as rare.
const MARKED: &str = "
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
var<workgroup> flag: u32;
var<workgroup> tile: array<vec4<f32>, 64>;
@compute @workgroup_size(64)
fn marked(@builtin(local_invocation_index) at: u32, @builtin(num_workgroups) rounds: vec3<u32>) {
  var sum = vec4<f32>();
  for (var i = 0u; i < rounds.x; i += 1u) {
    tile[at] = x[i * 64u + at];
    if tile[at].x > 1.0 { flag = 0x52415245u; }
    if workgroupUniformLoad(&flag) == 0x52415245u {
      sum = exp2(sum * tile[at ^ 1u]) + tile[at ^ 2u];
    }
    for (var j = 0u; j < 8u; j += 1u) { sum = fma(tile[j], tile[63u - j], sum); }
    workgroupBarrier();
  }
  y[at] = sum;
}
";

fn main() {
    let drivers = std::env::var("TILELOOM_DRIVERS").map_or("../../.drivers".into(), PathBuf::from);
    let lacks = !cfg!(target_os = "linux") || !drivers.join("ready/mesa26").exists();
    let name = "a marked path is counted apart (needs mesa26 of tools/drivers)";
    let trial = Trial::test(name, marked_path).with_ignored_flag(lacks);
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit();
}

fn marked_path() -> Result<(), Failed> {
    let folder = std::env::temp_dir().join(format!("loom-isa-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("marked.wgsl");
    std::fs::write(&file, MARKED)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_loom"));
    command.args(["isa", "--json", "--target", "amd:navi31", "--target", "nvidia:0x172"]).arg(&file);
    let output = command.arg("--asm").arg(&folder).output()?;
    let text = String::from_utf8(output.stdout)?;
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let reports = loom::isa::report::parse(&text)?;
    assert_eq!(reports.len(), 2, "{text}");
    for report in reports {
        let figures = report.rows[0].figures.as_ref().ok_or(&text)?;
        let main = figures.main.as_ref().ok_or(&text)?;
        assert!(figures.registers > 0 && figures.occupancy > 0 && !figures.spills(), "{text}");
        assert!(main.rare >= 8 && main.counts.of("fma".parse()?) == 32, "{text}");
        let assembly = folder.join(report.target.replace(':', "-"));
        assert_eq!(std::fs::read_dir(assembly)?.count(), 2);
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
