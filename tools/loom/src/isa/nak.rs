//! What NAK prints (NVK): `NAK assembly`, Turing to Blackwell.

use super::loops::RARE;
use super::program::{Kind, Program, Reading, Space, starts};

/// The blocks of the text.
pub fn read(text: &str) -> Program {
    let mut reading = Reading::default();
    let mut marked = false;
    let mut inside = false;
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default().trim();
        if let Some(head) = line.strip_prefix("block").filter(|_| line.ends_with('{')) {
            // block.u 3 L4 [2] -> {
            let number = head.split_whitespace().find(|word| word.parse::<u32>().is_ok()).unwrap_or_default();
            reading.label(number);
            reading.alone(); // what follows is told behind the closing brace
            (inside, marked) = (true, false);
            continue;
        }
        if let Some(tail) = line.strip_prefix('}') {
            let next = tail.trim_start_matches([' ', '-', '>', '[']).trim_end_matches(']');
            for number in next.split(',').map(str::trim).filter(|number| !number.is_empty()) {
                reading.follows(number);
            }
            inside = false;
            continue;
        }
        if !inside || line.is_empty() {
            continue;
        }
        let words = line.trim_start();
        let bare =
            if words.starts_with('@') { words.split_once(' ').map_or("", |(_, rest)| rest.trim()) } else { words };
        let operation = bare.split_once(" = ").map_or(bare, |(_, right)| right).trim();
        let operation = if operation.starts_with('@') {
            operation.split_once(' ').map_or("", |(_, rest)| rest.trim())
        } else {
            operation
        };
        let (op, arguments) = operation.split_once(' ').unwrap_or((operation, ""));
        reading.block().counts.add(kind(op), 1);
        if op.starts_with("isetp") {
            marked = arguments.contains(&format!("{RARE:#x}"));
        }
        if op.starts_with("bra") {
            reading.block().marked = std::mem::take(&mut marked);
        }
    }
    reading.finish()
}

fn kind(op: &str) -> Kind {
    let access = |rest: &str| {
        let space = match rest.split('.').next() {
            Some("shared") => Space::Workgroup,
            Some("local") => Space::Scratch,
            _ => Space::Global,
        };
        (space, width(rest))
    };
    match op {
        _ if starts(op, &["hmma", "imma", "dmma"]) => Kind::Matrix,
        _ if op.starts_with("ffma") => Kind::Fma,
        _ if op.starts_with("mufu") => Kind::Special,
        _ if starts(op, &["f2f", "f2i", "i2f", "f2fp", "hadd2.f32"]) => Kind::Convert,
        _ if starts(op, &["fadd", "fmul", "fmnmx", "frnd", "hfma2", "hadd2", "hmul2", "hmnmx", "fswz"]) => Kind::Float,
        _ if op.starts_with("ldsm") => Kind::Load(
            Space::Workgroup,
            if op.contains("x4") {
                16
            } else if op.contains("x2") {
                8
            } else {
                4
            },
        ),
        _ if op.starts_with("ldc") => Kind::Constant,
        _ if op.starts_with("ld.") => {
            let (space, bytes) = access(&op[3..]);
            Kind::Load(space, bytes)
        }
        _ if op.starts_with("st.") => {
            let (space, bytes) = access(&op[3..]);
            Kind::Store(space, bytes)
        }
        _ if op.starts_with("atoms") || op.starts_with("atom.shared") => Kind::Atomic(Space::Workgroup),
        _ if starts(op, &["atom", "red"]) => Kind::Atomic(Space::Global),
        _ if starts(op, &["bar"]) => Kind::Barrier,
        _ if starts(op, &["bra", "brx", "exit"]) => Kind::Branch,
        _ if starts(
            op,
            &["bssy", "bsync", "bclear", "break", "nop", "depbar", "warpsync", "membar", "cctl", "bmov", "errbar"],
        ) =>
        {
            Kind::Wait
        }
        _ if op.starts_with("shfl") => Kind::Shuffle,
        _ if starts(op, &["mov", "prmt", "sel", "r2ur", "s2r", "cs2r", "s2ur", "swap", "undef", "src"]) => Kind::Move,
        _ if starts(
            op,
            &[
                "i", "lea", "shf", "shl", "shr", "lop", "popc", "flo", "plop", "bmsk", "brev", "fset", "fsel", "hset",
                "vote", "redux", "match", "p2r", "r2p", "sgxt", "psetp",
            ],
        ) =>
        {
            Kind::Int
        }
        _ => Kind::Other,
    }
}

/// Bytes per invocation of `global.a64.strong.gpu.b128`.
fn width(op: &str) -> u32 {
    match op.rsplit('.').next().unwrap_or_default() {
        "b128" => 16,
        "b64" => 8,
        "u16" | "s16" | "b16" => 2,
        "u8" | "s8" | "b8" => 1,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        for (op, expected) in [
            ("hmma.m16n8k16.f32", "matrix"),
            ("ffma.ftz", "fma"),
            ("hfma2", "float"),
            ("fmnmx.ftz", "float"),
            ("fsetp.lt.ftz", "int"),
            ("mufu.exp2.f32", "special"),
            ("f2f.f16.f32", "convert"),
            ("ldsm.16.m8n8.x4", "workgroup load 16"),
            ("ld.global.a64.constant.u16", "global load 2"),
            ("st.shared.strong.cta.b128", "workgroup store 16"),
            ("ld.local.strong.cta.b32", "scratch load 4"),
            ("ldc.b32", "constant"),
            ("imad64", "int"),
            ("mov", "move"),
            ("shfl.bfly.b32", "shuffle"),
            ("bar.sync", "barrier"),
            ("membar.sc..cta", "wait"),
            ("exit", "branch"),
        ] {
            assert_eq!(kind(op).to_string(), expected, "{op}");
        }
    }

    #[test]
    fn blocks_name_what_follows() {
        let text = "block.u 0 L2 [] -> {\n      ur3     = ldc.b32 c[0x0][+0x700]     // delay=2 wr:2\n} -> [1]\n\
            block.u 1 L1 [0, 2] -> {\n      p0      = isetp.eq.u32 r6 0x52415245  // delay=9\n\
            @!p0            bra pT L8  // delay=1\n} -> [2, 3]\n\
            block 2 L9 [1] -> {\n      r8..12  = ld.global.a64.constant.b128 [r7+ur0..2], p0 // delay=2\n\
                            bra pT L1\n} -> [1]\nblock 3 L8 [1] -> {\n                exit\n} -> []\n";
        let program = read(text);
        let next: Vec<_> = program.blocks.iter().map(|block| block.next.clone()).collect();
        assert_eq!(next, [vec![1], vec![2, 3], vec![1], vec![]]);
        assert_eq!(program.blocks.iter().position(|block| block.marked), Some(1));
        assert_eq!(program.counts().of(Kind::Load(Space::Global, 16)), 1);
        assert_eq!(program.counts().total(), 6);
    }
}
