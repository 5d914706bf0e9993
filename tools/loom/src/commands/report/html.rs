//! The page.

use std::fmt::Write;

use super::svg::{Chart, Series, escaped};
use super::{Measured, contract, curve, names, shapes, shares, standing, text};
use crate::commands::bench::rate;
use crate::commands::results::by_bench;
use crate::figures::{Figures, Files, Line, Peers, Report, Side, bytes, digits, duration};
use crate::stats::median;

/// All of it: nothing is loaded from elsewhere.
pub fn page(files: &Files) -> String {
    let reports = files.reports.as_slice();
    let names = names(reports);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>tileloom: measured</title>\n\
         <style>\n{}</style>\n</head>\n<body>\n<h1>tileloom: measured</h1>\n\
         <p class=\"faint\">Each figure is a share of the ceiling that bounds it, which was measured on the same adapter in \
         the same moments. Results were held against a CPU reference on the data that was timed. Open a line for its \
         quantiles, its Config and the command that measures it again.</p>\n",
        include_str!("page.css")
    );
    page += "<p>";
    for (i, name) in names.iter().enumerate() {
        let _ = write!(page, "<span class=\"c{}\"><span class=\"key\"></span></span>{} ", i % 6, escaped(name));
    }
    page += "</p>\n";
    let _ = write!(
        page,
        "<details><summary>Six lines to paste</summary>\n<pre class=\"card\">{}</pre>\n</details>\n",
        escaped(&text::lines(files))
    );
    for (i, report) in reports.iter().enumerate() {
        adapter(&mut page, report, &names[i], i);
    }
    for (word, title, what) in [
        ("strict", "Strict: f32", "Floats are f32 wherever they are stored or multiplied."),
        ("fast", "Fast: 16 bits, bytes, matrices", "16-bit floats, codes of bytes, or cooperative matrices take part."),
    ] {
        bars(&mut page, reports, &names, word, title, what);
    }
    curves(&mut page, reports, &names);
    misses(&mut page, reports, &names);
    files.peers.iter().for_each(|peers| beside(&mut page, peers));
    page + "</body>\n</html>\n"
}

fn row(page: &mut String, name: &str, value: &str) {
    let _ = writeln!(page, "<tr><th>{}</th><td>{}</td></tr>", escaped(name), escaped(value));
}

/// Facts and ceilings of one adapter.
fn adapter(page: &mut String, report: &Report, name: &str, number: usize) {
    let _ =
        writeln!(page, "<h2><span class=\"c{}\"><span class=\"key\"></span></span>{}</h2>", number % 6, escaped(name));
    *page += "<div class=\"wide\"><table>\n";
    for (name, text) in report.told() {
        row(page, name, &text);
    }
    for word in ["strict", "fast"] {
        let shares = shares(report, word);
        if !shares.is_empty() {
            let told = format!("{:.0} % of its ceiling, the median of {}", 100.0 * median(&shares), shares.len());
            row(page, &format!("{word} shapes"), &told);
        }
    }
    row(page, "lines", &report.counts());
    *page += "</table></div>\n<h3>Ceilings</h3>\n<div class=\"wide\"><table>\n\
              <tr><th>what</th><th class=\"n\">rate</th><th></th><th>by</th></tr>\n";
    if report.ceilings.is_empty() {
        for (name, rate, unit, by) in
            [("copy", report.copy_gb_per_s, "GB/s", &report.copy), ("fma", report.fma_gflops, "GFLOP/s", &report.fma)]
        {
            let _ = writeln!(
                page,
                "<tr><td>{name}</td><td class=\"n\">{}</td><td>{unit}</td><td>{}</td></tr>",
                digits(rate),
                escaped(by)
            );
        }
    }
    for ceiling in &report.ceilings {
        let best = ceiling.shapes.iter().max_by(|a, b| a.rate.unwrap_or(0.0).total_cmp(&b.rate.unwrap_or(0.0)));
        let others: Vec<String> = ceiling
            .shapes
            .iter()
            .map(|tried| match (tried.rate, &tried.reason) {
                (Some(rate), _) => format!("{} {}", digits(rate), tried.shape),
                (None, reason) => format!("{}: {}", tried.shape, reason.as_deref().unwrap_or_default()),
            })
            .collect();
        let by = match (ceiling.rate, best) {
            (Some(_), Some(best)) => escaped(&best.shape),
            _ => format!("<span class=\"faint\">{}</span>", escaped(ceiling.reason.as_deref().unwrap_or_default())),
        };
        let more = match others.len() {
            0 | 1 => String::new(),
            n => format!(
                "<details><summary class=\"faint\">{n} shapes</summary><pre>{}</pre></details>",
                escaped(&others.join("\n"))
            ),
        };
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td class=\"n\">{}</td><td>{}</td><td>{by}{more}</td></tr>",
            escaped(&ceiling.name),
            ceiling.rate.map_or("none".into(), digits),
            escaped(&ceiling.unit)
        );
    }
    *page += "</table></div>\n";
    roofline(page, report);
}

/// Operations per byte and rates, below the ceilings.
fn roofline(page: &mut String, report: &Report) {
    let rate = |name: &str| report.ceilings.iter().find(|ceiling| ceiling.name == name)?.rate;
    let memory = rate("read").unwrap_or(0.0).max(report.copy_gb_per_s);
    let of = |wanted: &str| -> (Vec<(f64, f64)>, Vec<String>) {
        let own = report.lines.iter().filter(|line| contract(line) == wanted);
        let told = own.filter_map(|line| {
            let f = line.figures.as_ref()?;
            let x = f.intensity.unwrap_or(f.gflops / f.gb_per_s);
            let fits = x > 0.0 && x.is_finite() && f.gflops > 0.0;
            fits.then(|| ((x, f.gflops), format!("{} {}: {} GFLOP/s", line.kernel, line.shape, digits(f.gflops))))
        });
        told.unzip()
    };
    let ((strict, strict_titles), (fast, fast_titles)) = (of("strict"), of("fast"));
    let xs = || strict.iter().chain(&fast).map(|p| p.0);
    let (Some(low), Some(high)) = (xs().reduce(f64::min), xs().reduce(f64::max)) else { return };
    let mut series = Vec::new();
    let mut titles = Vec::new();
    let peaks = report.ceilings.iter().filter(|c| c.name.starts_with("fma") || c.name.starts_with("matrix"));
    let mut peaks: Vec<(String, f64)> = peaks.filter_map(|c| Some((c.name.clone(), c.rate?))).collect();
    if peaks.is_empty() {
        peaks.push(("fma".into(), report.fma_gflops));
    }
    for (i, (name, peak)) in peaks.iter().enumerate() {
        let ridge = peak / memory;
        let mut points = vec![(low.min(ridge), memory * low.min(ridge)), (ridge, *peak)];
        points.push((high.max(2.0 * ridge), *peak));
        titles.push(vec![name.clone(), format!("{name}: {} GFLOP/s", digits(*peak)), name.clone()]);
        series.push(Series { name: name.clone(), colour: [5, 4, 1, 0][i % 4], points, joined: true });
    }
    for (name, points, told, colour) in [("strict", strict, strict_titles, 2), ("fast", fast, fast_titles, 3)] {
        titles.push(told);
        series.push(Series { name: name.into(), colour, points, joined: false });
    }
    figure(page, &Chart { x: "operations per byte".into(), y: "GFLOP/s".into(), base: 10.0, series, titles });
}

/// A chart, and what its colours mean.
fn figure(page: &mut String, chart: &Chart) {
    let shown = chart.series.iter().filter(|series| !series.points.is_empty());
    let key = |own: &Series| {
        format!("<span class=\"c{}\"><span class=\"key\"></span></span>{}\n", own.colour % 6, escaped(&own.name))
    };
    let _ = write!(
        page,
        "<figure>\n{}<figcaption>{}</figcaption>\n</figure>\n",
        chart.render(),
        shown.map(key).collect::<String>()
    );
}

/// Whether it is no further from the best of its shape than noise.
fn near(own: &Figures, best: &Figures) -> bool {
    own.median_s - best.median_s <= own.noise().hypot(best.noise()) * best.median_s
}

fn bars(page: &mut String, reports: &[Report], names: &[String], word: &str, title: &str, what: &str) {
    let all = shapes(reports, &|line| contract(line) == word);
    if all.is_empty() {
        return;
    }
    let _ = write!(page, "<h2>{title}</h2>\n<p class=\"faint\">{what} Bars are shares of the ceiling.</p>\n");
    let mut last = "";
    for ((kernel, shape), measured) in &all {
        if *kernel != last {
            let _ = writeln!(page, "<h3>{}</h3>", escaped(kernel));
            last = kernel;
        }
        let best = measured.iter().min_by(|a, b| a.figures.median_s.total_cmp(&b.figures.median_s));
        let _ = writeln!(page, "<details><summary>{}", escaped(shape));
        for own in measured {
            let f = own.figures;
            let tied =
                best.is_some_and(|best| measured.len() > 1 && best.adapter != own.adapter && near(f, best.figures));
            let (rate, unit) = rate(f);
            let _ = writeln!(
                page,
                "<div class=\"bar{}\"><span class=\"name\">{}</span>\
                 <span class=\"track c{}\"><div class=\"fill\" style=\"width: {:.1}%\"></div></span>\
                 <span class=\"value\">{} {unit}, {:.0} %{}{}</span></div>",
                if tied { " near" } else { "" },
                escaped(&names[own.adapter]),
                own.adapter % 6,
                (100.0 * f.share).clamp(0.0, 100.0),
                digits(rate),
                100.0 * f.share,
                if tied { " (no difference beyond noise)" } else { "" },
                if f.doubt.is_some() { " <b class=\"doubt\">!</b>" } else { "" }
            );
        }
        *page += "</summary>\n";
        for own in measured {
            numbers(page, &reports[own.adapter], &names[own.adapter], own);
        }
        *page += "</details>\n";
    }
}

/// All figures of one line.
fn numbers(page: &mut String, report: &Report, name: &str, own: &Measured) {
    let (f, line): (&Figures, &Line) = (own.figures, own.line);
    let _ = write!(page, "<div class=\"wide\"><table>\n<tr><th colspan=\"2\">{}</th></tr>\n", escaped(name));
    let mut times = format!("{}; p10 {}, p90 {}", duration(f.median_s), duration(f.p10_s), duration(f.p90_s));
    if let (Some(best), Some(worst)) = (f.best_s, f.worst_s) {
        let _ = write!(times, "; best {}, worst {}", duration(best), duration(worst));
    }
    row(page, "time of a call", &times);
    if let Some([first, last]) = f.thirds_s {
        row(page, "first and last third", &format!("{}, {}", duration(first), duration(last)));
    }
    row(page, "wall time", &duration(f.wall_s));
    let calls = f.calls.map_or(String::new(), |calls| format!(" of {calls} calls"));
    row(page, "samples", &format!("{}{calls}, {} sets of inputs", f.samples, f.input_sets));
    row(page, "rates", &format!("{} GFLOP/s, {} GB/s", digits(f.gflops), digits(f.gb_per_s)));
    let unit = if f.bound == "dispatch" { " k/s" } else { "" };
    row(page, "ceiling", &format!("{:.0} % of {}, {}{unit}", 100.0 * f.share, f.bound, digits(f.roofline)));
    if let Some(need) = f.device_bytes {
        row(page, "device memory", &bytes(need));
    }
    row(page, "error over what is allowed", &format!("{:.2}", f.error_ratio));
    if let Some(doubt) = &f.doubt {
        let _ = writeln!(page, "<tr><th class=\"doubt\">doubt</th><td class=\"doubt\">{}</td></tr>", escaped(doubt));
    }
    let _ = write!(
        page,
        "<tr><th>Config</th><td><code>{}</code></td></tr>\n<tr><th>again</th><td><code>{}</code></td></tr>\n</table></div>\n",
        escaped(&line.config),
        escaped(&report.command(line))
    );
}

/// Rates by size.
fn curves(page: &mut String, reports: &[Report], names: &[String]) {
    let all = shapes(reports, &|line| curve(&line.shape).is_some());
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for ((kernel, shape), _) in &all {
        let Some((name, _)) = curve(shape) else { continue };
        if !seen.contains(&(kernel, name)) {
            seen.push((kernel, name));
        }
    }
    if !seen.is_empty() {
        *page += "<h2>By size</h2>\n";
    }
    for (kernel, name) in seen {
        let own = || all.iter().filter(|((k, s), _)| *k == kernel && curve(s).is_some_and(|(c, _)| c == name));
        let by_ops = own().flat_map(|(_, measured)| measured).any(|m| rate(m.figures).1 == "GFLOP/s");
        let value = |f: &Figures| if by_ops { f.gflops } else { f.gb_per_s };
        let unit = if by_ops { "GFLOP/s" } else { "GB/s" };
        let (mut series, mut titles) = (Vec::new(), Vec::new());
        for (i, adapter) in names.iter().enumerate() {
            let (mut points, mut told) = (Vec::new(), Vec::new());
            for ((_, shape), measured) in own() {
                for m in measured.iter().filter(|m| m.adapter == i) {
                    let n = curve(shape).map_or(f64::NAN, |(_, n)| n);
                    points.push((n, value(m.figures)));
                    told.push(format!("{adapter}, n={n}: {} {unit}", digits(value(m.figures))));
                }
            }
            series.push(Series { name: adapter.clone(), colour: i, points, joined: true });
            titles.push(told);
        }
        let _ = writeln!(page, "<h3>{}: {}</h3>", escaped(kernel), escaped(name));
        figure(page, &Chart { x: "n".into(), y: unit.into(), base: 2.0, series, titles });
    }
}

/// What has no figure, and why.
fn misses(page: &mut String, reports: &[Report], names: &[String]) {
    let mut rows = String::new();
    for (report, name) in reports.iter().zip(names) {
        for line in report.lines.iter().filter(|line| line.figures.is_none()) {
            let (class, word, reason) = match (&line.failed, &line.skipped) {
                (None, Some(reason)) => ("faint", "skipped", reason.as_str()),
                (reason, _) => ("bad", "failed", reason.as_deref().unwrap_or("no figure")),
            };
            let _ = writeln!(
                rows,
                "<tr><td>{}</td><td>{} {}</td><td class=\"{class}\">{word}: {}</td></tr>",
                escaped(name),
                escaped(&line.kernel),
                escaped(&line.shape),
                escaped(reason)
            );
        }
    }
    if !rows.is_empty() {
        let _ = write!(page, "<h2>Without a figure</h2>\n<div class=\"wide\"><table>\n{rows}</table></div>\n");
    }
}

/// tileloom and others: bars of speed per shape.
fn beside(page: &mut String, peers: &Peers) {
    let _ = write!(
        page,
        "<h2>Beside others: {}</h2>\n<p class=\"faint\">Bars are speeds, the longest is the fastest of its shape. Each result was \
         held against a CPU reference before it was timed.</p>\n<div class=\"wide\"><table>\n",
        escaped(&peers.adapter)
    );
    for (name, text) in peers.told() {
        row(page, name, &text);
    }
    row(page, "first", &standing(peers));
    *page += "</table></div>\n";
    let mut whos: Vec<&str> = Vec::new();
    for side in &peers.lines {
        if !whos.contains(&side.who.as_str()) {
            whos.push(&side.who);
        }
    }
    let mut last = "";
    for sides in peers.shapes() {
        let Side { kernel, shape, .. } = &sides[0];
        if kernel != last {
            let _ = writeln!(page, "<h3>{}</h3>", escaped(kernel));
            last = kernel;
        }
        let times = sides.iter().filter_map(|side| Some(side.figures.as_ref()?.median_s));
        let fastest = times.fold(f64::INFINITY, f64::min);
        let _ = writeln!(page, "<details><summary>{}", escaped(shape));
        for side in sides {
            let colour = whos.iter().position(|who| *who == side.who).unwrap_or(0) % 6;
            let (width, value) = match &side.figures {
                Some(f) => {
                    let times = f.times_tileloom.map_or(String::new(), |times| format!(", {}", digits(times)));
                    let lost = f.times_tileloom.is_some_and(|times| times < 1.0);
                    let class = if lost { "bad" } else { "" };
                    let told = format!("{}{times}", duration(f.median_s));
                    (100.0 * fastest / f.median_s, format!("<span class=\"{class}\">{told}</span>"))
                }
                None => (0.0, "<span class=\"bad\">failed</span>".into()),
            };
            let _ = writeln!(
                page,
                "<div class=\"bar\"><span class=\"name\">{}</span>\
                 <span class=\"track c{colour}\"><div class=\"fill\" style=\"width: {width:.1}%\"></div></span>\
                 <span class=\"value\">{value}</span></div>",
                escaped(&side.who)
            );
        }
        *page += "</summary>\n<div class=\"wide\"><table>\n";
        for side in sides {
            row(page, &side.who, &told(side));
        }
        *page += "</table></div>\n</details>\n";
    }
}

/// All figures of one side.
fn told(side: &Side) -> String {
    let Some(f) = &side.figures else {
        return format!("failed: {}", side.failed.as_deref().unwrap_or("no figure"));
    };
    let mut text = format!("{}; p10 {}, p90 {}", duration(f.median_s), duration(f.p10_s), duration(f.p90_s));
    let _ = write!(text, "; {} samples of {} calls", f.samples, f.calls_per_sample);
    for (rate, unit) in [(f.gflops, "GFLOP/s"), (f.gb_per_s, "GB/s"), (f.tokens_per_s, "tokens/s")] {
        if let Some(rate) = rate {
            let _ = write!(text, "; {} {unit}", digits(rate));
        }
    }
    if let Some(times) = f.times_tileloom {
        let _ = write!(text, "; {} of tileloom's time", digits(times));
    }
    if let Some(error) = f.error_ratio {
        let _ = write!(text, "; error {error:.2} of what is allowed");
    }
    let by_bench = by_bench(f);
    if !by_bench.is_empty() {
        let _ = write!(text, "; by loom bench {by_bench}");
    }
    if !side.config.is_empty() {
        let _ = write!(text, "; {}", side.config);
    }
    text
}
