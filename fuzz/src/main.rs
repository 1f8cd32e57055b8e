//! A generator of inputs that needs no fuzzer: it mutates a target's corpus, from a seed.
//!
//! `generate TARGET EXECUTIONS SEED` runs a target so many times and says how long it took. The same
//! arguments make the same inputs; what panics is written to `crash-TARGET-SEED`.

use std::{env, error::Error, fs, panic, path::Path, time::Instant};

use chimera_fuzz::targets;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// What decoders look out for.
const WORDS: [&[u8]; 20] = [
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"\r\n\r\n",
    b"data:",
    b"data: ",
    b"event: ",
    b":",
    b"id: 1\n",
    b"\xef\xbb\xbf",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b"\\u",
    b"\xf0\x9f\x98\x80",
    b"[DONE]",
];
const LONGEST: usize = 2048;

/// One small change, and often another.
fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    loop {
        let at = random.below(input.len() + 1);
        match random.below(7) {
            0 if at < input.len() => input[at] = random.next() as u8,
            1 if at < input.len() => {
                let end = (at + 1 + random.below(16)).min(input.len());
                input.drain(at..end);
            }
            2 if at < input.len() => {
                let end = (at + 1 + random.below(32)).min(input.len());
                let piece = input[at..end].to_vec();
                let to = random.below(input.len() + 1);
                input.splice(to..to, piece);
            }
            3 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len());
                let end = (from + 1 + random.below(64)).min(other.len());
                input.splice(at..at, other[from..end].iter().copied());
            }
            4 => input.truncate(at),
            5 if at < input.len() => input[at] ^= 1 << random.below(8),
            _ => {
                input.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied());
            }
        }
        input.truncate(LONGEST);
        if random.below(3) == 0 {
            return;
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [name, executions, seed] = &args[..] else {
        return Err("generate TARGET EXECUTIONS SEED".into());
    };
    let (_, target) = targets::ALL.iter().find(|(known, _)| known == name).ok_or("no such target")?;
    let (executions, seed): (u64, u64) = (executions.parse()?, seed.parse()?);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora").join(name);
    let mut paths: Vec<_> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    paths.sort();
    let corpus: Vec<Vec<u8>> = paths.iter().map(fs::read).collect::<Result<_, _>>()?;
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let started = Instant::now();
    let mut input = Vec::new();
    for execution in 0..executions {
        // A chain of changes goes a little further from its beginning each time.
        if execution % 8 == 0 || input.is_empty() {
            input.clone_from(&corpus[random.below(corpus.len())]);
        }
        mutate(&mut input, &corpus, &mut random);
        if panic::catch_unwind(|| target(&input)).is_err() {
            fs::write(format!("crash-{name}-{seed}"), &input)?;
            return Err(format!("it broke at execution {execution}").into());
        }
    }
    println!("{name}: {executions} executions, seed {seed}, in {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}
