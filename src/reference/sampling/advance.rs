//! What a step of generation leaves for the next, by its definition.

use crate::advance::Problem;

/// No slot.
const NONE: u32 = u32::MAX;

/// `state` and `history` `[batch, most]` after the step; `tokens` are `[batch, width]`, `accepted` `[batch]`. What the Problem lacks is empty.
pub fn reference(
    problem: &Problem,
    state: &[u32],
    tokens: &[i32],
    accepted: &[u32],
    history: &[i32],
) -> (Vec<u32>, Vec<i32>) {
    let Problem { batch, width, most, page_size, .. } = *problem;
    let (mut state, mut history) = (state.to_vec(), history.to_vec());
    if let Some(at) = problem.step {
        state[at] = state[at].wrapping_add(1);
    }
    let stops = problem.stops.map_or(Vec::new(), |at| state[at..at + problem.num_stops].to_vec());
    for b in 0..batch {
        let before = (state[problem.lengths + b] as usize).min(most).saturating_sub(width);
        let was_done = problem.done.is_some_and(|at| state[at + b] != 0);
        let (mut taken, mut done) = (0, was_done);
        if !was_done {
            let count = accepted.get(b).map_or(width, |&accepted| 1 + (accepted as usize).min(width - 1));
            for &token in &tokens[b * width..][..count] {
                let place = before + 1 + taken;
                if done || place >= most {
                    break;
                }
                if !history.is_empty() {
                    history[b * most + place] = token;
                }
                taken += 1;
                done = stops.contains(&(token as u32));
            }
            done |= before + taken + width >= most;
            if let Some(at) = problem.done {
                state[at + b] = done.into();
            }
            state[problem.lengths + b] = (before + taken + width).min(most) as u32;
            if let Some(at) = problem.positions {
                for axis in 0..problem.axes {
                    let own = at + (axis * batch + b) * width;
                    state[own..own + width].iter_mut().for_each(|p| *p = p.wrapping_add(taken as u32));
                }
            }
        }
        let Some(at) = problem.slots else { continue };
        for i in 0..width {
            let place = before + taken + i;
            let number = place / page_size;
            let page = match problem.table {
                Some(table) if number < problem.max_pages => Some(state[table + b * problem.max_pages + number]),
                None if number == 0 => Some(b as u32),
                _ => None,
            };
            let page = page.map(|page| page as usize).filter(|&page| page < problem.pages);
            let gone = place >= most || (done && problem.done.is_some());
            let slot = page.filter(|_| !gone).map(|page| (page * page_size + place % page_size) as u32);
            state[at + b * width + i] = slot.unwrap_or(NONE);
        }
    }
    (state, history)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // lengths, positions, slots, table [2, 2], step, stop, done.
        let problem = Problem {
            batch: 2,
            most: 4,
            lengths: 0,
            positions: Some(2),
            slots: Some(4),
            pages: 4,
            page_size: 2,
            table: Some(6),
            max_pages: 2,
            step: Some(10),
            stops: Some(11),
            num_stops: 1,
            done: Some(12),
            history: Some(Default::default()),
            ..Problem::default()
        };
        let state = [2, 1, 1, 0, 9, 9, 3, 1, 2, 0, 7, 50, 0, 0];
        let (next, history) = reference(&problem, &state, &[40, 50], &[], &[0; 8]);
        // Place 2 of the first sequence is the first of its second page; the second one has stopped.
        assert_eq!(next, [3, 2, 2, 1, 2, NONE, 3, 1, 2, 0, 8, 50, 0, 1]);
        assert_eq!(history, [0, 0, 40, 0, 0, 50, 0, 0]);
        // The last place is taken; what is done stays.
        let (last, _) = reference(&problem, &next, &[41, 60], &[], &history);
        assert_eq!(last, [4, 2, 3, 1, NONE, NONE, 3, 1, 2, 0, 9, 50, 1, 1]);
        let (same, _) = reference(&problem, &last, &[42, 61], &[], &history);
        assert_eq!(same[..6], last[..6]);
    }

    #[test]
    fn proposed_tokens() {
        let problem = Problem {
            batch: 2,
            width: 3,
            most: 20,
            accepted: Some(0),
            slots: Some(2),
            pages: 2,
            page_size: 20,
            ..Problem::default()
        };
        let state = [5, 9, 0, 0, 0, 0, 0, 0];
        let (next, _) = reference(&problem, &state, &[1, -1, -1, 2, 3, 4], &[0, 9], &[]);
        assert_eq!(next, [6, 12, 3, 4, 5, 29, 30, 31]);
    }
}
