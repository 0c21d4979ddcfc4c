//! Dates for templates that mention today. This room has no clock: the date is handed in.

/// A day and a time of day, as they were handed in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Date {
    year: i64,
    month: usize,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
/// Days of a common year before each month.
const DAYS_BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

impl Date {
    pub(super) fn parse(text: &str) -> Option<Self> {
        // What follows the seconds (a fraction, a zone) is of no use here.
        let field = |at: usize, length: usize| {
            let digits = text.get(at..at + length)?;
            digits
                .bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| digits.parse::<i64>().ok())?
        };
        let (year, month, day) = (field(0, 4)?, field(5, 2)?, field(8, 2)?);
        let separated = text.get(4..5) == Some("-") && text.get(7..8) == Some("-");
        let time = |at: usize| if text.len() > at { field(at, 2) } else { Some(0) };
        let (hour, minute, second) = (time(11)?, time(14)?, time(17)?);
        let sound = separated && (1..=12).contains(&month) && (1..=31).contains(&day);
        let sound = sound && hour < 24 && minute < 60 && second <= 60;
        sound.then_some(Self {
            year,
            month: month as usize - 1,
            day,
            hour,
            minute,
            second,
        })
    }

    fn day_of_year(self) -> i64 {
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        DAYS_BEFORE[self.month] + self.day + i64::from(leap && self.month > 1)
    }

    /// Sunday is 0.
    fn weekday(self) -> usize {
        let past = self.year - 1;
        (past + past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400) + self.day_of_year()).rem_euclid(7)
            as usize
    }

    /// The directives of `strftime` that templates use; others stay as they are.
    pub(super) fn format(self, format: &str) -> String {
        let (month, weekday) = (MONTHS[self.month], WEEKDAYS[self.weekday()]);
        let (hour12, half) = ((self.hour + 11) % 12 + 1, if self.hour < 12 { "AM" } else { "PM" });
        let mut out = String::new();
        let mut rest = format.chars();
        while let Some(character) = rest.next() {
            if character != '%' {
                out.push(character);
                continue;
            }
            let mut directive = rest.next();
            // `%-d` is `%d` without its leading zero.
            let bare = directive == Some('-');
            if bare {
                directive = rest.next();
            }
            let number = |value: i64, width: usize| {
                if bare {
                    value.to_string()
                } else {
                    format!("{value:0width$}")
                }
            };
            match directive {
                Some('Y') => out += &number(self.year, 4),
                Some('y') => out += &number(self.year % 100, 2),
                Some('m') => out += &number(self.month as i64 + 1, 2),
                Some('d') => out += &number(self.day, 2),
                Some('e') => out += &format!("{:2}", self.day),
                Some('j') => out += &number(self.day_of_year(), 3),
                Some('H') => out += &number(self.hour, 2),
                Some('I') => out += &number(hour12, 2),
                Some('M') => out += &number(self.minute, 2),
                Some('S') => out += &number(self.second, 2),
                Some('p') => out += half,
                Some('B') => out += month,
                Some('b' | 'h') => out += &month[..3],
                Some('A') => out += weekday,
                Some('a') => out += &weekday[..3],
                Some('F') => out += &self.format("%Y-%m-%d"),
                Some('T') => out += &self.format("%H:%M:%S"),
                Some('%') => out.push('%'),
                other => {
                    out.push('%');
                    out.extend(bare.then_some('-'));
                    out.extend(other);
                }
            }
        }
        out
    }
}
