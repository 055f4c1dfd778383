//! A picture of cost against the number of filters, both on logarithmic axes.

use std::fmt::Write;

use super::figures::Figures;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 560.0;
/// Where the axes are: left, right, top, bottom.
const FRAME: (f64, f64, f64, f64) = (80.0, 700.0, 60.0, 500.0);
/// Colours that can be told apart without seeing red and green (Okabe and Ito).
const COLOURS: [&str; 7] =
    ["#e69f00", "#56b4e9", "#009e73", "#b59f00", "#0072b2", "#cc79a7", "#777777"];
const OURS: &str = "#d55e00";
/// Of what is not measured.
const GRID: &str = "#ddd";
const LEADER: &str = "#999";
/// Which packets.
const MIX: &str = "uniform";
const SET: &str = "ports";

/// What a contender is called beside its curve.
fn label(name: &str) -> &str {
    match name {
        "filters" => "Exo, one filter each, interpreted",
        "merged" => "Exo, merged, interpreted",
        "ebpf" => "eBPF, one each, interpreted",
        "ebpf-jit" => "eBPF, one each, compiled",
        "ebpf-tree" => "eBPF, one tree, compiled",
        "pcap" => "libpcap, one each",
        "pcap-or" => "libpcap, one expression",
        "demux" => "by hand, all fields",
        "demux-ports" => "by hand, ports alone",
        "exo" => "Exo, merged, compiled",
        other => other,
    }
}

/// Instructions per packet of every contender that was measured.
pub(super) fn svg(figures: &Figures) -> String {
    let cases: Vec<_> = figures.cases.iter().filter(|case| case.set == SET).collect();
    let curves: Vec<(&str, Vec<(f64, f64)>)> = figures
        .contenders
        .iter()
        .map(|(name, _)| {
            let point = |case: &&_| {
                let case: &super::figures::Case = case;
                let cost = figures.instructions(case, name, MIX)?;
                Some((f64::from(case.filters), cost.max(1.0)))
            };
            (name.as_str(), cases.iter().filter_map(point).collect())
        })
        .collect();
    let points = || curves.iter().flat_map(|(_, points)| points);
    let decades = |values: &mut dyn Iterator<Item = f64>| {
        let (least, most) = values.fold((1e9_f64, 1.0_f64), |(a, b), x| (a.min(x), b.max(x)));
        (least.log10().floor(), most.log10().ceil().max(least.log10().floor() + 1.0))
    };
    let (left, right, top, bottom) = FRAME;
    let (x0, x1) = decades(&mut points().map(|point| point.0));
    let (y0, y1) = decades(&mut points().map(|point| point.1));
    let x = |value: f64| left + (value.log10() - x0) / (x1 - x0) * (right - left);
    let y = |value: f64| bottom - (value.log10() - y0) / (y1 - y0) * (bottom - top);

    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{left}\" y=\"26\" font-size=\"17\">Instructions to tell one packet apart, UDP \
         ports, hits on all filters alike</text>\n\
         <text x=\"{left}\" y=\"46\" fill=\"#555\">\u{2193} lower is better; both axes \
         logarithmic; dots are measured, dotted lines lead to names</text>\n\
         <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">filters installed</text>\n\
         <text transform=\"translate(22 {:.0}) rotate(-90)\" text-anchor=\"middle\">instructions \
         per packet</text>\n",
        (left + right) / 2.0,
        bottom + 44.0,
        (top + bottom) / 2.0,
    );
    for decade in x0 as i32..=x1 as i32 {
        let at = x(10_f64.powi(decade));
        _ = writeln!(
            out,
            "<line x1=\"{at:.1}\" y1=\"{top}\" x2=\"{at:.1}\" y2=\"{bottom}\" stroke=\"{GRID}\"/>\
             <text x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            bottom + 20.0,
            power(decade)
        );
    }
    for decade in y0 as i32..=y1 as i32 {
        let at = y(10_f64.powi(decade));
        _ = writeln!(
            out,
            "<line x1=\"{left}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\" stroke=\"{GRID}\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 8.0,
            at + 4.0,
            power(decade)
        );
    }
    // Names beside the ends of the curves, moved apart where they would lie on each other.
    let mut labels: Vec<(f64, f64, f64, &str, &str)> = Vec::new();
    for (number, (name, points)) in curves.iter().enumerate() {
        let Some(&(last_x, last_y)) = points.last() else { continue };
        let ours = *name == figures.ours;
        let colour = if ours { OURS } else { COLOURS[number % COLOURS.len()] };
        let thick = if ours { 4.0 } else { 2.0 };
        let dash = if number >= COLOURS.len() && !ours { " stroke-dasharray=\"6 3\"" } else { "" };
        let path: Vec<_> =
            points.iter().map(|&(a, b)| format!("{:.1},{:.1}", x(a), y(b))).collect();
        _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{thick}\"{dash}/>",
            path.join(" ")
        );
        for &(a, b) in points {
            _ = writeln!(
                out,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{thick}\" fill=\"{colour}\"/>",
                x(a),
                y(b)
            );
        }
        labels.push((x(last_x), y(last_y), y(last_y), name, colour));
    }
    labels.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut lowest = f64::MIN;
    for label in &mut labels {
        label.2 = label.2.max(lowest + 16.0);
        lowest = label.2;
    }
    for (from, at, to, name, colour) in labels {
        _ = writeln!(
            out,
            "<line x1=\"{:.1}\" y1=\"{at:.1}\" x2=\"{:.0}\" y2=\"{to:.1}\" stroke=\"{LEADER}\" \
             stroke-dasharray=\"1 4\"/><text x=\"{:.0}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>",
            from + 6.0,
            right + 24.0,
            right + 28.0,
            to + 4.0,
            label(name)
        );
    }
    out.push_str("</svg>\n");
    out
}

/// Ten to the power of `decade`, short.
fn power(decade: i32) -> String {
    let number = |unit: i32| 10_u64.pow((decade - unit).clamp(0, 18) as u32);
    match decade {
        6.. => format!("{} M", number(6)),
        3..6 => format!("{} k", number(3)),
        _ => number(0).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::{Case, Change, Measured, Outcome, PerPacket};
    use super::*;

    fn figures(contenders: &[(&str, &[f64])]) -> Figures {
        let measured = |instructions| {
            let change = || Change { instructions: None, ns: 1.0 };
            let packet = PerPacket { mix: MIX.into(), count: 1, instructions, ns: 1.0, ratio: 1.0 };
            Outcome::Measured(Measured {
                packets: vec![packet],
                insert: change(),
                remove: change(),
                code_bytes: 0.0,
                data_bytes: 0.0,
                tells_who: true,
            })
        };
        let case = |(place, filters): (usize, u32)| Case {
            set: SET.into(),
            filters,
            results: contenders
                .iter()
                .map(|(_, costs)| match costs.get(place) {
                    Some(&cost) => measured(cost),
                    None => Outcome::Cannot("too many".into()),
                })
                .collect(),
        };
        Figures {
            method: "hand".into(),
            libpcap: None,
            rounds: 1,
            contenders: contenders.iter().map(|(name, _)| ((*name).into(), "".into())).collect(),
            ours: "exo".into(),
            cases: [1, 10, 1000, 10_000].into_iter().enumerate().map(case).collect(),
        }
    }

    #[test]
    fn what_is_not_measured_does_not_look_like_it() {
        let picture = svg(&figures(&[
            ("pcap-or", &[200.0, 900.0]),
            ("exo", &[44.0, 55.0, 55.0, 56.0]),
            ("demux", &[44.0, 54.0, 54.0, 55.0]),
        ]));
        assert_eq!(picture.matches("<circle").count(), 2 + 4 + 4);
        let lines: Vec<_> = picture.split("<line ").skip(1).collect();
        let leaders: Vec<_> = lines.iter().filter(|line| line.contains(LEADER)).collect();
        assert_eq!(leaders.len(), 3);
        assert!(leaders.iter().all(|line| line.contains("stroke-dasharray=\"1 4\"")));
        for line in &lines {
            let line = line.split("/>").next().unwrap();
            assert!(line.contains(LEADER) || line.contains(GRID), "{line}");
        }
    }

    #[test]
    fn every_contender_has_a_name_for_readers() {
        let contenders = include_str!("../../../../bench/dpf/src/contenders/mod.rs");
        let names = contenders.lines().filter_map(|line| line.trim().strip_prefix("name: \""));
        let names: Vec<_> = names.filter_map(|line| line.strip_suffix("\",")).collect();
        assert!(names.len() >= 9, "{names:?}");
        for name in names.into_iter().chain(["exo"]) {
            let picture = svg(&figures(&[(name, &[9.0, 9.0])]));
            assert!(label(name).contains(' ') && picture.contains(label(name)), "{name}");
            assert!(!picture.contains(&format!(">{name}<")), "{name}");
        }
    }
}
