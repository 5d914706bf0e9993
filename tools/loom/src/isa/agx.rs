//! What Mesa's AGX compiler prints (Honeykrisp): the disassembly, Apple M1.

use super::program::{Kind, Program, Reading, Space, starts};

/// The blocks of the longest program of the text: the others fill constants.
pub fn read(text: &str) -> Program {
    let mut programs: Vec<Vec<(i64, &str, &str)>> = vec![Vec::new()];
    for line in text.lines() {
        let Some((at, op, arguments)) = instruction(line) else { continue };
        let current = programs.last_mut().expect("there is one");
        if current.last().is_some_and(|&(last, ..)| at <= last) {
            programs.push(Vec::new());
        }
        programs.last_mut().expect("there is one").push((at, op, arguments));
    }
    let program = programs.into_iter().max_by_key(Vec::len).unwrap_or_default();
    // Jumps name their distance.
    let target = |at: i64, op: &str, arguments: &str| {
        let distance: i64 = arguments.rsplit([' ', ',']).next()?.trim_start_matches('+').parse().ok()?;
        op.starts_with("jmp").then_some(at + distance)
    };
    let targets: Vec<i64> = program.iter().filter_map(|&(at, op, arguments)| target(at, op, arguments)).collect();
    let mut reading = Reading::default();
    for &(at, op, arguments) in &program {
        if targets.contains(&at) {
            reading.label(&at.to_string());
        }
        reading.block().counts.add(kind(op, arguments), 1);
        if let Some(to) = target(at, op, arguments) {
            reading.jump(&to.to_string(), false);
        } else if op == "stop" {
            reading.end();
        }
    }
    reading.finish()
}

/// `  78: 0579680611c01200       load     r15, dr12, r11, i32, x, a`
fn instruction(line: &str) -> Option<(i64, &str, &str)> {
    let (at, rest) = line.trim_start().split_once(": ")?;
    let at = i64::from_str_radix(at, 16).ok()?;
    let (bytes, rest) = rest.trim_start().split_once(' ')?;
    if bytes.len() < 4 || !bytes.chars().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let rest = rest.trim();
    Some(rest.split_once(' ').map_or((at, rest, ""), |(op, arguments)| (at, op, arguments.trim())))
}

fn kind(op: &str, arguments: &str) -> Kind {
    let bytes = || {
        let mut parts = arguments.split(", ");
        let mask = parts.clone().find(|part| !part.is_empty() && "xyzw".starts_with(*part));
        let each = match parts.find(|part| matches!(*part, "i8" | "u8norm" | "i16" | "f16")) {
            Some("i8" | "u8norm") => 1,
            Some(_) => 2,
            None => 4,
        };
        each * mask.map_or(1, |mask| mask.len() as u32)
    };
    match op {
        _ if starts(op, &["ffma", "fmadd32", "fma"]) => Kind::Fma,
        _ if starts(
            op,
            &["hfma", "hadd", "hmul", "fadd", "fmul", "fcmp", "fmin", "fmax", "floor", "roundeven", "trunc", "ceil"],
        ) =>
        {
            Kind::Float
        }
        _ if starts(op, &["lload", "threadgroup_load"]) => Kind::Load(Space::Workgroup, bytes()),
        _ if starts(op, &["lstore", "threadgroup_store"]) => Kind::Store(Space::Workgroup, bytes()),
        _ if starts(op, &["latomic"]) => Kind::Atomic(Space::Workgroup),
        _ if starts(op, &["stack_load"]) => Kind::Load(Space::Scratch, bytes()),
        _ if starts(op, &["stack_store"]) => Kind::Store(Space::Scratch, bytes()),
        _ if starts(op, &["load", "device_load", "uload", "texture", "image"]) => Kind::Load(Space::Global, bytes()),
        _ if starts(op, &["store", "device_store"]) => Kind::Store(Space::Global, bytes()),
        _ if starts(op, &["atomic"]) => Kind::Atomic(Space::Global),
        _ if starts(op, &["threadgroup_barrier", "barrier"]) => Kind::Barrier,
        _ if starts(op, &["wait", "nop", "stack_adjust", "memory_barrier", "trap"]) => Kind::Wait,
        _ if starts(
            op,
            &["jmp", "pop_exec", "push_exec", "if", "else", "while", "break", "begin", "continue", "stop"],
        ) =>
        {
            Kind::Branch
        }
        _ if starts(op, &["conv", "cvt"]) => Kind::Convert,
        _ if starts(op, &["exp2", "log2", "rcp", "rsqrt", "sin", "cos"]) => Kind::Special,
        _ if starts(op, &["simd", "quad", "shuffle"]) => Kind::Shuffle,
        _ if starts(op, &["mov", "ldimm", "get_sr"]) => Kind::Move,
        _ => Kind::Int,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_program_and_its_loop() {
        let text = "impl main {\n   0: 72051004               mov      r1, thread_in_grid_x\n  c: 3800      stop\n\
            \x20  0: 72051004               mov      r1, thread_in_grid_x\n\
            \x20 24: 522c86221900           while    $r3, u9, 1, ult\n\
            \x20 2a: 0579680611c01200       load     r12_r13_r14_r15, dr12, r11, i32, xyzw, a\n\
            \x20 32: 69a1800214000000       lload    r8, 0, i32, x\n\
            \x20 3a: baad56e225660200       ffma     $r11, r11, r15, r19\n\
            \x20 42: 20c0e2ffffff           jmp_exec_any -30\n\
            \x20 48: 8800                   stop\n";
        let program = read(text);
        let counts = program.counts();
        for kind in [Kind::Fma, Kind::Load(Space::Global, 16), Kind::Load(Space::Workgroup, 4), Kind::Move] {
            assert_eq!(counts.of(kind), 1, "{kind}");
        }
        let back = program.blocks.iter().enumerate().find_map(|(i, block)| block.next.iter().find(|&&to| to <= i));
        assert_eq!(back, Some(&1));
    }
}
