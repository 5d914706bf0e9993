//! What ir3 prints (Turnip): `IR3 Assembly`, Adreno.

use super::program::{Kind, Program, Reading, Space, starts};

/// The blocks of the text.
pub fn read(text: &str) -> Program {
    let mut reading = Reading::default();
    for line in text.lines() {
        let line = line.split(';').next().unwrap_or_default().trim();
        if let Some(label) = line.strip_suffix(':').filter(|label| !label.contains(' ')) {
            reading.label(label);
            continue;
        }
        if line.is_empty() || starts(line, &["@", "Native code", "Disassembly"]) {
            continue;
        }
        let (mut rest, mut times) = (line, 1);
        while let Some(flag) = rest.strip_prefix('(') {
            let (flag, after) = flag.split_once(')').unwrap_or((flag, ""));
            if let Some(more) = flag.strip_prefix("rpt") {
                times += more.parse::<u32>().unwrap_or(0);
            }
            rest = after.trim_start();
        }
        let (op, arguments) = rest.split_once(' ').unwrap_or((rest, ""));
        let kind = kind(op, arguments);
        // A repeated nop is one instruction that waits longer.
        reading.block().counts.add(kind, if kind == Kind::Wait { 1 } else { times });
        match (op, arguments.rsplit_once('#')) {
            ("end", _) => reading.end(),
            (_, Some((_, label))) if kind == Kind::Branch => {
                reading.jump(label.trim(), op == "jump");
            }
            _ => {}
        }
    }
    reading.finish()
}

fn kind(op: &str, arguments: &str) -> Kind {
    let bytes = || {
        let count = arguments.rsplit(',').next().and_then(|count| count.trim().parse().ok()).unwrap_or(1);
        let each = if op.contains("16") {
            2
        } else if op.contains("u8") {
            1
        } else {
            4
        };
        each * count
    };
    match op {
        _ if starts(op, &["mad.f32"]) => Kind::Fma,
        _ if starts(op, &["mad.f16", "mul.f", "add.f", "max.f", "min.f", "rndne", "floor", "trunc", "ceil"]) => {
            Kind::Float
        }
        _ if starts(op, &["cov"]) => Kind::Convert,
        _ if starts(op, &["mov", "swz", "gat", "sct"]) => Kind::Move,
        _ if starts(op, &["shfl", "brcst", "quad_shuffle", "getfiberid", "elect"]) => Kind::Shuffle,
        _ if starts(op, &["ldlw", "ldl"]) => Kind::Load(Space::Workgroup, bytes()),
        _ if starts(op, &["stlw", "stl"]) => Kind::Store(Space::Workgroup, bytes()),
        _ if starts(op, &["ldp"]) => Kind::Load(Space::Scratch, bytes()),
        _ if starts(op, &["stp"]) => Kind::Store(Space::Scratch, bytes()),
        _ if starts(op, &["ldc", "stc", "getone", "sh", "resinfo"]) && !starts(op, &["shl", "shr"]) => Kind::Constant,
        _ if starts(op, &["ldib", "ldg", "isam", "sam"]) => Kind::Load(Space::Global, global(op, arguments)),
        _ if starts(op, &["stib", "stg"]) => Kind::Store(Space::Global, global(op, arguments)),
        _ if op.starts_with("atomic") => {
            Kind::Atomic(if op.contains(".b.") || op.contains(".g") { Space::Global } else { Space::Workgroup })
        }
        _ if starts(op, &["br", "jump", "predt", "predf", "prede", "bany", "ball", "end", "kill"]) => Kind::Branch,
        _ if starts(op, &["bar"]) => Kind::Barrier,
        _ if starts(op, &["nop", "fence", "sleep"]) => Kind::Wait,
        _ if starts(op, &["exp2", "log2", "rcp", "rsq", "sqrt", "sin", "cos", "hlog2", "hexp2", "hrsq"]) => {
            Kind::Special
        }
        _ => Kind::Int,
    }
}

/// Bytes per invocation of `ldib.b.untyped.1d.u32.4.imm r0.x, ..` and of `isam (u32)(xyzw)r0.x, ..`.
fn global(op: &str, arguments: &str) -> u32 {
    let half = op.contains("16") || arguments.contains("16)");
    let mask = arguments.split(')').find_map(|part| part.trim_start().strip_prefix('('));
    let masked = arguments.split(['(', ')']).find(|part| !part.is_empty() && part.chars().all(|c| "xyzw".contains(c)));
    let told = op.split('.').find_map(|part| part.parse::<u32>().ok().filter(|n| (1..=4).contains(n)));
    let count = match (masked, mask) {
        (Some(letters), Some(_)) => letters.len() as u32,
        _ => told.unwrap_or(1),
    };
    if half { 2 * count } else { 4 * count }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_with_repeats() {
        let text = "Native code for unnamed CL shader (null):\n; num_ubos: 0\n@in(r48.x)\tin0\nmov.u32u32 r1.y, 0\nl17:\n\
            cmps.u.ge up0.y, r48.w, c0.x\n(ss)br p0.y, #l81\n(ss)(nop2) add.u r2.z, r0.x, r49.x\n\
            isam.v.base0 (u32)(xyzw)r2.w, r2.z, s#0, t#0\n(sy)stl.u32 l[r2.y], r2.w, 4\n(sy)(ss)bar.g\n\
            ldl.u32 r3.w, l[r0.w], 1\n(rpt1)mad.f32 r5.z, (r)(last)r5.z, (r)r6.z, (r)(last)r1.w\n(rpt6)nop\njump #l17\nnop\n\
            l81:\nstib.b.untyped.1d.u32.4.imm.base0 r1.y, r1.x, 2\nend\nnop\n";
        let program = read(text);
        let counts = program.counts();
        for (kind, n) in [
            (Kind::Fma, 2),
            (Kind::Load(Space::Global, 16), 1),
            (Kind::Store(Space::Workgroup, 16), 1),
            (Kind::Load(Space::Workgroup, 4), 1),
            (Kind::Store(Space::Global, 16), 1),
            (Kind::Barrier, 1),
            (Kind::Branch, 3),
        ] {
            assert_eq!(counts.of(kind), n, "{kind}");
        }
        let back = program.blocks.iter().enumerate().find_map(|(i, block)| block.next.iter().find(|&&to| to <= i));
        assert_eq!(back, Some(&1));
    }
}
