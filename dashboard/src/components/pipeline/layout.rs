//! Where the nodes stand: in a row on a wide page, stacked on a narrow one. Pure.

use super::model::Node;

/// A box, in the units of the drawing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    /// Left.
    pub x: f64,
    /// Top.
    pub y: f64,
    /// Width.
    pub w: f64,
    /// Height.
    pub h: f64,
}

/// An arrow's line and where its two labels go.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// SVG path.
    pub path: String,
    /// Above or right of the line.
    pub rate_at: (f64, f64),
    /// Below that.
    pub lag_at: (f64, f64),
    /// `middle` or `start`.
    pub anchor: &'static str,
}

/// Size of the drawing.
pub fn size(narrow: bool) -> (f64, f64) {
    if narrow { (358.0, 666.0) } else { (1216.0, 208.0) }
}

/// Where a node stands.
pub fn frame(node: Node, narrow: bool) -> Frame {
    let at = |x, y, w, h| Frame { x, y, w, h };
    if narrow {
        let (left, right) = (1.0, 182.0);
        return match node {
            Node::Generators => at(left, 1.0, 356.0, 74.0),
            Node::Kafka => at(left, 115.0, 356.0, 74.0),
            Node::Processor => at(left, 229.0, 356.0, 168.0),
            Node::Results => at(left, 437.0, 356.0, 74.0),
            Node::Indexer => at(left, 551.0, 111.0, 114.0),
            Node::Elasticsearch => at(124.0, 551.0, 111.0, 114.0),
            Node::Gateway => at(right + 65.0, 551.0, 110.0, 114.0),
        };
    }
    match node {
        Node::Generators => at(1.0, 56.0, 148.0, 92.0),
        Node::Kafka => at(213.0, 56.0, 148.0, 92.0),
        Node::Processor => at(425.0, 11.0, 176.0, 182.0),
        Node::Results => at(665.0, 56.0, 138.0, 92.0),
        Node::Indexer => at(867.0, 1.0, 138.0, 92.0),
        Node::Elasticsearch => at(1069.0, 1.0, 146.0, 92.0),
        Node::Gateway => at(867.0, 113.0, 348.0, 92.0),
    }
}

/// The line of an arrow.
pub fn line(from: Node, to: Node, narrow: bool) -> Line {
    let (a, b) = (frame(from, narrow), frame(to, narrow));
    if narrow && !(from == Node::Indexer && to == Node::Elasticsearch) {
        // Straight down into the middle of the lower box.
        let x = b.x + b.w / 2.0;
        let (top, bottom) = (a.y + a.h, b.y);
        let middle = f64::midpoint(top, bottom);
        return Line {
            path: format!("M{x} {top}V{}", bottom - 7.0),
            rate_at: (x + 10.0, middle + 4.0),
            lag_at: (x - 10.0, middle + 4.0),
            anchor: "start",
        };
    }
    let (x1, y1) = (a.x + a.w, a.y + a.h / 2.0);
    let (x2, y2) = (b.x, b.y + b.h / 2.0);
    let middle = f64::midpoint(x1, x2);
    let path = if (y1 - y2).abs() < 1.0 {
        format!("M{x1} {y1}H{}", x2 - 7.0)
    } else {
        format!("M{x1} {y1}C{middle} {y1} {middle} {y2} {} {y2}", x2 - 7.0)
    };
    // A rising arrow has both labels above its far end, a falling one below: clear of the curves.
    let (rate_y, lag_y) = match y2 - y1 {
        rise if rise < -1.0 => (y2 - 24.0, y2 - 9.0),
        fall if fall > 1.0 => (y2 + 18.0, y2 + 32.0),
        _ => (y1 - 9.0, y1 + 17.0),
    };
    Line { path, rate_at: (middle - 2.0, rate_y), lag_at: (middle - 2.0, lag_y), anchor: "middle" }
}

/// Words in lines of about so many characters.
pub fn wrapped(words: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![];
    for word in words.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.into()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped() {
        assert_eq!(wrapped("pushed as it happens", 12), ["pushed as it", "happens"]);
        assert!(wrapped("", 12).is_empty());
    }

    #[test]
    fn boxes_stay_inside_and_apart() {
        for narrow in [false, true] {
            let (width, height) = size(narrow);
            let frames = Node::ALL.map(|n| frame(n, narrow));
            for (i, a) in frames.iter().enumerate() {
                assert!(a.x >= 0.0 && a.x + a.w <= width && a.y >= 0.0 && a.y + a.h <= height, "{a:?}");
                for b in frames.iter().skip(i + 1) {
                    let apart = a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y;
                    assert!(apart, "{a:?} and {b:?}");
                }
            }
        }
    }
}
