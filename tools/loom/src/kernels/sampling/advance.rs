//! What a step of generation leaves for the next, described.

use tileloom::Layout;
use tileloom::advance::Problem;
use tileloom::verify::Describe;

use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values};

/// All parts, one behind the other: sequences of 50 places in pages of 8.
fn paged(batch: usize, width: usize) -> Problem {
    let (axes, max_pages, num_stops) = (2, 7, 3);
    let positions = 1 + batch;
    let slots = positions + axes * batch * width;
    let table = slots + batch * width;
    let step = table + batch * max_pages;
    Problem {
        batch,
        width,
        most: 50,
        lengths: 1,
        positions: Some(positions),
        axes,
        slots: Some(slots),
        pages: 5 * batch,
        page_size: 8,
        table: Some(table),
        max_pages,
        step: Some(step),
        stops: Some(step + 1),
        num_stops,
        done: Some(step + 1 + num_stops),
        accepted: (width > 1).then_some(0),
        history: Some(Layout::default()),
        ..Problem::default()
    }
}

/// A contiguous cache, and no more.
fn contiguous(batch: usize, most: usize) -> Problem {
    Problem { batch, most, slots: Some(batch), pages: batch, page_size: most, ..Problem::default() }
}

/// Numbers of which none makes sense.
fn hostile(_: &Problem, values: &mut Values) {
    for name in ["state", "accepted"] {
        values.entry(name).and_modify(|all| all.iter_mut().step_by(2).for_each(|v| *v = f64::from(u32::MAX)));
    }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    fn list(list: &mut List<Problem>) {
        for (batch, width) in [(1, 1), (7, 1), (9, 4), (130, 2)] {
            list.narrow("pages", paged(batch, width)).twice();
        }
        for (batch, most) in [(1, 1), (5, 2), (17, 33)] {
            list.narrow("contiguous", contiguous(batch, most)).seed(2);
        }
        let last = paged(20, 3);
        list.narrow("garbage", last).seed(3).set(hostile);
        list.narrow("lengths only", Problem { batch: 9, most: 9, ..Problem::default() }).seed(4);
        let strided = Problem { tokens: 3, accepted: Some(2), history: Some(Layout::strided(5, [61])), ..paged(6, 2) };
        list.narrow("strided", strided).seed(5);
        list.wide("no sequences", Problem { batch: 0, step: Some(0), lengths: 4, most: 9, ..Problem::default() });
        list.wide("checked modules give the same", paged(9, 4)).seed(6).checked();
        list.bench("64 sequences", paged(64, 1));
        list.compose(paged(2, 1));
        list.compose(paged(2, 2));
    }

    fn cost(&self) -> Cost {
        Cost::of(0.0, &self.args())
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("most", &mut self.most)?;
        options.value("lengths", &mut self.lengths)?;
        options.value("positions", &mut self.positions)?;
        options.value("axes", &mut self.axes)?;
        options.value("slots", &mut self.slots)?;
        options.value("pages", &mut self.pages)?;
        options.value("page_size", &mut self.page_size)?;
        options.value("table", &mut self.table)?;
        options.value("max_pages", &mut self.max_pages)?;
        options.value("step", &mut self.step)?;
        options.value("stops", &mut self.stops)?;
        options.value("num_stops", &mut self.num_stops)?;
        options.value("done", &mut self.done)?;
        options.value("tokens_offset", &mut self.tokens)?;
        if let Some(at) = &mut self.accepted {
            options.value("accepted_offset", at)?;
        }
        if let Some(layout) = &mut self.history {
            options.value("history_layout", layout)?;
        }
        Ok(())
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        const SHAPE: &str = "[batch, width], a token at least";
        let tokens = reader.tensor("tokens", SHAPE)?;
        let &[batch, width] = &tokens.shape[..] else {
            return Err(case::bad_shape("tokens", tokens, SHAPE));
        };
        let state = reader.tensor("state", "U32 [elements]")?;
        let accepted = reader.optional("accepted");
        let history = reader.optional("history");
        let mut problem = Problem {
            batch,
            width,
            most: history.and_then(|history| history.shape.last().copied()).unwrap_or(1),
            accepted: accepted.map(|_| 0),
            history: history.map(|_| Layout::default()),
            ..Problem::default()
        };
        problem.options(&mut Options::Read(reader))?;
        let mut values = Values::new();
        let shapes = [Some(state), Some(tokens), accepted, history];
        for (name, tensor) in ["state", "tokens", "accepted", "history"].into_iter().zip(shapes) {
            let (Some(tensor), true) = (tensor, problem.args().iter().any(|arg| arg.name == name)) else { continue };
            let arg = problem.args().into_iter().find(|arg| arg.name == name).expect("it is there");
            let numbers = case::integers(name, tensor)?;
            let expected = problem.shape(&arg);
            if tensor.shape != expected {
                return Err(case::bad_shape(name, tensor, format!("{expected:?}")));
            }
            values.insert(name, numbers.into_iter().map(|v| v as f64).collect());
        }
        let shown = |name: &'static str| problem.args().into_iter().find(|arg| arg.name == name);
        let outputs = ["state", "history"].into_iter().filter_map(shown);
        let outputs = outputs.map(|arg| Shown::new(arg.name, problem.shape(&arg))).collect();
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.name {
            "tokens" => vec![self.batch, self.width],
            "accepted" => vec![self.batch],
            "history" => vec![self.batch, self.most],
            _ => vec![arg.view.len()],
        }
    }
}
