//! Writes small mmdb files, after the [format](https://maxmind.github.io/MaxMind-DB/): a
//! binary tree
//! of 24-bit records over IPv6, a section of values, and metadata.

use std::net::Ipv4Addr;

/// A value of the format; what tests need of it.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Double(f64),
    Float(f32),
    Short(u16),
    Number(u32),
    Long(u64),
    Map(Vec<(String, Self)>),
    Empty,
}

impl Value {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub(super) fn map<const N: usize>(pairs: [(&str, Self); N]) -> Self {
        Self::Map(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                control(2, text.len(), out);
                out.extend_from_slice(text.as_bytes());
            }
            Self::Double(number) => {
                control(3, 8, out);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::Short(number) => {
                control(5, 2, out);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::Long(number) => {
                control(9, 8, out);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::Number(number) => {
                control(6, 4, out);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::Map(pairs) => {
                control(7, pairs.len(), out);
                for (key, value) in pairs {
                    Self::text(key).write(out);
                    value.write(out);
                }
            }
            // An array of nothing.
            Self::Empty => control(11, 0, out),
            Self::Float(number) => {
                control(15, 4, out);
                out.extend_from_slice(&number.to_be_bytes());
            }
        }
    }
}

/// A control byte: three bits of type, five of size; types above 7 take a byte more.
fn control(kind: u8, size: usize, out: &mut Vec<u8>) {
    let size = u8::try_from(size).unwrap();
    assert!(size < 29, "longer values need more bytes");
    if kind > 7 {
        out.extend_from_slice(&[size, kind - 7]);
    } else {
        out.push(kind << 5 | size);
    }
}

#[derive(Clone, Copy)]
enum Record {
    Nothing,
    Node(usize),
    Value(usize),
}

/// A file that maps IPv4 networks to values.
pub(super) fn mmdb(kind: &str, networks: &[(&str, Value)]) -> Vec<u8> {
    let mut nodes = vec![[Record::Nothing; 2]];
    let mut values = Vec::new();
    for (network, value) in networks {
        let at = values.len();
        value.write(&mut values);
        insert(&mut nodes, &bits(network), at);
    }
    let mut file = Vec::new();
    for node in &nodes {
        for record in node {
            let number = match *record {
                Record::Nothing => nodes.len(),
                Record::Node(index) => index,
                Record::Value(at) => nodes.len() + 16 + at,
            };
            file.extend_from_slice(&u32::try_from(number).unwrap().to_be_bytes()[1..]);
        }
    }
    file.extend_from_slice(&[0; 16]);
    file.extend_from_slice(&values);
    file.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    metadata(kind, nodes.len()).write(&mut file);
    file
}

/// IPv4 stands under 96 zero bits.
fn bits(network: &str) -> Vec<usize> {
    let (address, prefix) = network.split_once('/').unwrap();
    let address = address.parse::<Ipv4Addr>().unwrap().to_bits();
    let prefix: usize = prefix.parse().unwrap();
    let v4 = (0..prefix).map(|at| usize::from(address >> (31 - at) & 1 == 1));
    std::iter::repeat_n(0, 96).chain(v4).collect()
}

fn insert(nodes: &mut Vec<[Record; 2]>, path: &[usize], value_at: usize) {
    let (last, path) = path.split_last().unwrap();
    let mut node = 0;
    for &bit in path {
        node = match nodes[node][bit] {
            Record::Node(next) => next,
            Record::Nothing => {
                nodes.push([Record::Nothing; 2]);
                let next = nodes.len() - 1;
                nodes[node][bit] = Record::Node(next);
                next
            }
            Record::Value(_) => panic!("networks overlap"),
        };
    }
    nodes[node][*last] = Record::Value(value_at);
}

fn metadata(kind: &str, nodes: usize) -> Value {
    Value::map([
        ("binary_format_major_version", Value::Short(2)),
        ("binary_format_minor_version", Value::Short(0)),
        ("build_epoch", Value::Long(1_700_000_000)),
        ("database_type", Value::text(kind)),
        ("description", Value::map([("en", Value::text("test"))])),
        ("languages", Value::Empty),
        ("ip_version", Value::Short(6)),
        ("node_count", Value::Number(u32::try_from(nodes).unwrap())),
        ("record_size", Value::Short(24)),
    ])
}
