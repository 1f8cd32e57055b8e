//! Groups of digits and what they may be: cards, phones, id numbers, dates, addresses of machines.

use std::{cell::OnceCell, ops::Range};

use super::{checks, context, kind::Kind};

/// More groups than any number here has.
const GROUPS: usize = 8;
/// More digits than any number here has.
const DIGITS: usize = 24;

/// Groups of digits with one separator between each two.
pub(super) struct Run<'t> {
    text: &'t [u8],
    digits: [u8; DIGITS],
    count: usize,
    /// For each group its separator, where it begins and ends, and how many digits there are up to its end.
    groups: [(u8, usize, usize, usize); GROUPS],
    many: usize,
    /// Whether the words before it speak of a phone; of an id. Asked once for all of its shapes.
    phone: OnceCell<bool>,
    id: OnceCell<bool>,
}

/// The first groups of a run.
struct Shape<'r> {
    run: &'r Run<'r>,
    text: &'r [u8],
    digits: &'r [u8],
    groups: &'r [(u8, usize, usize, usize)],
    range: Range<usize>,
}

impl<'t> Run<'t> {
    /// Reads the run that begins at a digit.
    pub(super) fn read(text: &'t [u8], at: usize) -> Self {
        let mut run = Self {
            text,
            digits: [0; DIGITS],
            count: 0,
            groups: [(0, 0, 0, 0); GROUPS],
            many: 0,
            phone: OnceCell::new(),
            id: OnceCell::new(),
        };
        let (mut at, mut separator) = (at, 0);
        while let Some(group) = run.groups.get_mut(run.many) {
            let from = at;
            while let Some(digit @ b'0'..=b'9') = text.get(at) {
                let Some(place) = run.digits.get_mut(run.count) else { return run };
                *place = digit - b'0';
                (at, run.count) = (at + 1, run.count + 1);
            }
            if at == from {
                break;
            }
            *group = (separator, from, at, run.count);
            run.many += 1;
            (separator, at) = match text.get(at..at + 3).or_else(|| text.get(at..at + 2)).unwrap_or_default()
            {
                [b')', b' ' | b'-', b'0'..=b'9'] => (b')', at + 2),
                [b' ', b'(', b'0'..=b'9'] => (b'(', at + 2),
                [b')', b'0'..=b'9', ..] => (b')', at + 1),
                [separator @ (b' ' | b'-' | b'.' | b'/'), b'0'..=b'9', ..] => (*separator, at + 1),
                _ => break,
            };
        }
        run
    }

    /// Where its first group ends.
    pub(super) fn first_end(&self) -> usize {
        let mut end = self.groups.first().map_or(0, |group| group.2);
        // A run that is longer than anything here is passed over whole.
        while self.many == 0 && self.text.get(end).is_some_and(u8::is_ascii_digit) {
            end += 1;
        }
        end
    }

    /// Where to go on when its first groups are nothing. In a long list of small numbers no phone begins
    /// but with a zero: most of the list is passed over.
    pub(super) fn next_start(&self) -> usize {
        const STEP: usize = 5;
        let length = |group: &(u8, usize, usize, usize)| group.2 - group.1;
        let small = self.many == GROUPS && self.groups.iter().all(|group| length(group) <= 2);
        let zero = |group: &(u8, usize, usize, usize)| self.text.get(group.1) == Some(&b'0');
        match self.groups.get(STEP - 1) {
            Some(fifth) if small && !self.groups.iter().take(STEP + 1).any(zero) => fifth.2,
            _ => self.first_end(),
        }
    }

    /// What its first groups are, as many of them as make something.
    pub(super) fn classify(&self) -> Option<(Kind, Range<usize>)> {
        // A list of single digits, of which nothing is made.
        if let [(_, from, to, _), (b' ', next, end, _), ..] = self.groups
            && to - from == 1
            && end - next == 1
        {
            return None;
        }
        (1..=self.many).rev().find_map(|many| self.shape(many)?.classify())
    }

    fn shape(&self, many: usize) -> Option<Shape<'_>> {
        let groups = self.groups.get(..many)?;
        let (_, _, end, count) = *groups.last()?;
        let start = groups.first()?.1;
        let follows = self.text.get(end..).unwrap_or_default();
        let goes_on = match follows {
            [b'0'..=b'9', ..] => true,
            [b'.', b'0'..=b'9', ..] => groups.iter().skip(1).all(|group| group.0 == b'.'),
            _ => false,
        };
        let shape = Shape {
            run: self,
            text: self.text,
            digits: self.digits.get(..count)?,
            groups,
            range: start..end,
        };
        (!goes_on && count >= 4).then_some(shape)
    }
}

impl Shape<'_> {
    fn classify(&self) -> Option<(Kind, Range<usize>)> {
        let found = |kind| Some((kind, self.range.clone()));
        if self.with_letter() {
            return Some((Kind::NationalId, self.range.start..self.range.end + 1));
        }
        if let Some(range) = self.national_insurance() {
            return Some((Kind::NationalId, range));
        }
        if self.next().is_ascii_alphanumeric() {
            return None;
        }
        if self.is_ip() {
            return found(Kind::Ip);
        }
        if self.is_date() {
            return if context::birth(self.text, self.range.start) { found(Kind::BirthDate) } else { None };
        }
        if self.digits.len() < 7 {
            return None;
        }
        if self.is_id() {
            return found(Kind::NationalId);
        }
        if self.is_card() {
            return found(Kind::Card);
        }
        if self.is_phone() {
            return Some((Kind::Phone, self.with_sign()));
        }
        (self.is_vague_id() && *self.run.id.get_or_init(|| context::id(self.text, self.range.start)))
            .then(|| (Kind::NationalId, self.range.clone()))
    }

    fn next(&self) -> u8 {
        self.text.get(self.range.end).copied().unwrap_or(b' ')
    }

    fn before(&self, back: usize) -> u8 {
        self.range.start.checked_sub(back).and_then(|at| self.text.get(at)).copied().unwrap_or(b' ')
    }

    /// The lengths of its groups.
    fn lengths(&self) -> [usize; GROUPS] {
        let mut lengths = [0; GROUPS];
        for (length, group) in lengths.iter_mut().zip(self.groups) {
            *length = group.2 - group.1;
        }
        lengths
    }

    /// Whether the groups have these lengths and stand between these separators.
    fn is(&self, lengths: &[usize], separators: &[u8]) -> bool {
        self.groups.len() == lengths.len()
            && self.groups.iter().zip(lengths).all(|(group, length)| group.2 - group.1 == *length)
            && self.groups.iter().skip(1).all(|group| separators.contains(&group.0))
    }

    fn group(&self, index: usize) -> u64 {
        let end = self.groups.get(index).map_or(0, |group| group.3);
        let length = self.groups.get(index).map_or(0, |group| group.2 - group.1);
        checks::number(self.digits.get(end - length..end).unwrap_or_default())
    }

    fn is_ip(&self) -> bool {
        let short = self.groups.iter().all(|group| group.2 - group.1 <= 3);
        let dotted = self.groups.len() == 4 && self.groups.iter().skip(1).all(|group| group.0 == b'.');
        let good = dotted && short && (0..4).all(|index| self.group(index) <= 255);
        let version = matches!(self.before(1), b'v' | b'V' | b'.' | b'-');
        let octets = [0, 1, 2, 3].map(|index| self.group(index));
        good && !version && !matches!(octets, [0, 0, 0, 0] | [127, 0, 0, 1])
    }

    /// Three groups that make a day of the calendar.
    fn is_date(&self) -> bool {
        let separators = self.groups.iter().skip(1).map(|group| group.0);
        let even =
            self.groups.len() == 3 && separators.clone().all(|one| Some(one) == separators.clone().next());
        if !even || !separators.clone().all(|one| b"-./".contains(&one)) {
            return false;
        }
        let (one, two, three) = (self.group(0), self.group(1), self.group(2));
        let year = |year: u64, digits: usize| digits == 2 || (digits == 4 && (1890..=2099).contains(&year));
        match self.lengths() {
            [4, 1..=2, 1..=2, ..] => year(one, 4) && checks::day_and_month(three, two),
            [1..=2, 1..=2, digits @ (2 | 4), ..] => {
                year(three, digits) && (checks::day_and_month(one, two) || checks::day_and_month(two, one))
            }
            _ => false,
        }
    }

    /// Spain's DNI and China's id, whose last place is a letter.
    fn with_letter(&self) -> bool {
        let next = self.next();
        let after = self.text.get(self.range.end + 1).is_some_and(u8::is_ascii_alphanumeric);
        let digits = self.digits;
        self.groups.len() == 1
            && !after
            && match digits.len() {
                8 => next == checks::dni_letter(checks::number(digits)),
                17 => matches!(next, b'X' | b'x') && checks::resident_id(digits, 10),
                _ => false,
            }
    }

    /// The national insurance number of the United Kingdom, written in pairs.
    fn national_insurance(&self) -> Option<Range<usize>> {
        let end = self.range.end + 2;
        let last = self.text.get(self.range.end..end)?;
        let upper = self.before(3).is_ascii_uppercase() && self.before(2).is_ascii_uppercase();
        let good = self.is(&[2, 2, 2], b" ")
            && self.before(1) == b' '
            && upper
            && !self.before(4).is_ascii_alphanumeric();
        let ends = !self.text.get(end).is_some_and(u8::is_ascii_alphanumeric);
        (good && ends && matches!(last, [b' ', b'A'..=b'D'])).then(|| self.range.start - 3..end)
    }

    /// Numbers that are told by their form and a checksum.
    fn is_id(&self) -> bool {
        let digits = self.digits;
        let bare = self.groups.len() == 1;
        match digits.len() {
            9 if self.is(&[3, 2, 4], b"-") => {
                !matches!(self.group(0), 0 | 666 | 900..) && self.group(1) > 0 && self.group(2) > 0
            }
            10 if self.is(&[6, 4], b"-") => checks::personnummer(digits),
            10 if self.is(&[3, 3, 4], b" -") => {
                checks::nhs(digits) && context::nhs(self.text, self.range.start)
            }
            11 if self.is(&[3, 3, 3, 2], b".-") => checks::cpf(digits),
            11 if self.is(&[2, 2, 2, 3, 2], b".- ") => checks::national_number(digits),
            11 if bare => checks::pesel(digits) || checks::tckn(digits),
            12 if self.is(&[8, 4], b"-") => checks::personnummer(digits),
            12 if self.is(&[4, 4, 4], b" -") => checks::aadhaar(digits),
            13 if self.is(&[6, 7], b"-") => checks::rrn(digits),
            13 if bare => checks::south_africa(digits),
            15 if bare || self.is(&[1, 2, 2, 2, 3, 3, 2], b" .-") => checks::nir(digits),
            18 if bare => digits.split_last().is_some_and(|(check, body)| checks::resident_id(body, *check)),
            _ => false,
        }
    }

    /// Numbers that many others look like: they need a word before them.
    fn is_vague_id(&self) -> bool {
        let digits = self.digits;
        match digits.len() {
            9 => {
                let social = !matches!(checks::number(digits) / 1_000_000, 0 | 666 | 900..);
                checks::bsn(digits) || checks::luhn(digits) || checks::tfn(digits) || social
            }
            10 => checks::nhs(digits) || checks::personnummer(digits),
            11 => checks::steuer_id(digits) || checks::cpf(digits) || checks::national_number(digits),
            12 => checks::aadhaar(digits) || checks::personnummer(digits),
            13 => checks::rrn(digits),
            _ => false,
        }
    }

    fn is_card(&self) -> bool {
        let digits = self.digits;
        let issued = match digits.first() {
            Some(3..=6) => true,
            Some(2) => (2221..=2720).contains(&checks::number(digits.get(..4).unwrap_or_default())),
            _ => false,
        };
        let grouped = matches!(
            self.lengths(),
            [13..=19, 0, ..] | [4, 6, 4 | 5, 0, ..] | [4, 4, 4, 1..=4, 0, ..] | [4, 4, 4, 4, 1..=3, ..]
        );
        let spaced = self.groups.iter().skip(1).all(|group| matches!(group.0, b' ' | b'-'));
        (13..=19).contains(&digits.len()) && issued && grouped && spaced && checks::luhn(digits)
    }

    fn is_phone(&self) -> bool {
        let digits = self.digits;
        let (first, second) = (digits.first().copied().unwrap_or(0), digits.get(1).copied().unwrap_or(0));
        if self.has_plus() {
            return first > 0
                && if first == 1 { digits.len() == 11 } else { (8..=15).contains(&digits.len()) };
        }
        // The end of a longer number is not one of its own.
        if self.before(2).is_ascii_digit() && b" -./".contains(&self.before(1)) {
            return false;
        }
        let separated =
            self.groups.len() >= 2 && self.groups.iter().skip(1).all(|group| b" -./)(".contains(&group.0));
        let american = |area: usize| {
            let ok = |at: usize| digits.get(at).is_some_and(|digit| *digit >= 2);
            ok(area) && ok(area + 3)
        };
        match self.lengths() {
            [3, 3, 4, 0, ..] if separated && american(0) => return true,
            [1, 3, 3, 4, 0, ..] if separated && first == 1 && american(1) => return true,
            _ => {}
        }
        // The least group has two digits: a list of single numbers is no phone.
        let grouped = self.groups.iter().skip(1).all(|group| group.2 - group.1 >= 2);
        if separated && grouped && first == 0 && second > 0 && (9..=12).contains(&digits.len()) {
            return true;
        }
        let plausible = (7..=13).contains(&digits.len()) && (grouped || self.groups.len() == 1);
        plausible && *self.run.phone.get_or_init(|| context::phone(self.text, self.range.start))
    }

    fn has_plus(&self) -> bool {
        self.before(1) == b'+' || (self.before(1) == b'(' && self.before(2) == b'+')
    }

    /// The number with the plus and the parenthesis before it.
    fn with_sign(&self) -> Range<usize> {
        let mut start = self.range.start;
        let opens = self.groups.get(1).is_some_and(|group| group.0 == b')') && self.before(1) == b'(';
        start -= usize::from(opens);
        if start > 0 && self.text.get(start - 1) == Some(&b'+') {
            start -= 1;
        }
        start..self.range.end
    }
}
