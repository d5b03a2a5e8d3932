//! The walk over a body that is not there as a whole: what is being read is kept as steps, the
//! innermost last, and each is taken when all bytes that it reads are there.

use super::place::{Place, Stop};
use super::tail::{self, NODE_ENDPOINTS};
use super::{HELD_BYTES_MAX, StreamError, Streamed, tags};
use crate::protocol::guard::Fault;
use crate::protocol::guard::shape::{Field, Message, Struct, Type};
use crate::proxy::rewrite::Routes;
use crate::proxy::rewrite::visit::{NO_NODE, leads_nowhere};

/// Kafka's limit for a string, also for compact ones.
const MAX_STRING_BYTES: usize = i16::MAX as usize;

/// What lies ahead.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The plain fields of a structure from one on, and its tags.
    Fields { of: &'static Struct, next: usize },
    /// So many elements of an array.
    Elements { of: Type, left: usize },
    /// So many tags of a structure.
    Tags { of: &'static Struct, left: usize },
    /// A field within its tag.
    Tagged(&'static Field),
    /// The end of a tag, where the body has `left` bytes more.
    TagEnd { tag: u32, left: usize },
    /// What is behind the partitions.
    Tail,
}

/// A walk and what it has done.
#[derive(Debug)]
pub(super) struct Walk {
    message: &'static Message,
    version: i16,
    flexible: bool,
    body_bytes: usize,
    /// How many bytes of the body have not been passed.
    left: usize,
    steps: Vec<Step>,
    /// How many bytes are passed before the next step, which the body has.
    passing: usize,
    /// Whether they become zeros.
    erases: bool,
    /// The field being read, for the error.
    field: &'static str,
    done: Streamed,
}

impl Walk {
    /// At the start of a body of so many bytes.
    pub(super) fn new(message: &'static Message, version: i16, body_bytes: usize) -> Self {
        Self {
            message,
            version,
            flexible: message.flexible.contains(version),
            body_bytes,
            left: body_bytes,
            steps: vec![Step::Fields { of: message.root, next: 0 }],
            passing: 0,
            erases: false,
            field: "none",
            done: Streamed::default(),
        }
    }

    /// How many bytes of the body have not been passed.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// The version, and the field that was read last.
    pub(super) fn reads(&self) -> (i16, &'static str) {
        (self.version, self.field)
    }

    /// What was done.
    pub(super) fn finish(self) -> Streamed {
        self.done
    }

    /// Goes as far as the bytes reach that are there.
    pub(super) fn run(&mut self, place: &mut Place<'_>, routes: &impl Routes) -> Result<(), Stop> {
        let result = self.steps(place, routes);
        self.left = place.left();
        result
    }

    fn steps(&mut self, place: &mut Place<'_>, routes: &impl Routes) -> Result<(), Stop> {
        loop {
            self.passing = place.pass(self.passing, self.erases);
            if self.passing > 0 {
                return Ok(());
            }
            self.erases = false;
            let Some(step) = self.steps.pop() else {
                if place.left() == 0 {
                    return Ok(());
                }
                // Bytes behind the message: nobody knows what they say.
                self.done.edits += 1;
                (self.passing, self.erases) = (place.left(), true);
                continue;
            };
            if let Err(stop) = self.step(step, place, routes) {
                // A step that waits has done nothing.
                self.steps.push(step);
                return Err(stop);
            }
        }
    }

    fn step(
        &mut self,
        step: Step,
        place: &mut Place<'_>,
        routes: &impl Routes,
    ) -> Result<(), Stop> {
        match step {
            Step::Fields { of, next } => self.fields(of, next, place, routes),
            Step::Elements { left: 0, .. } | Step::Tags { left: 0, .. } => Ok(()),
            Step::Elements { of, left } => {
                let element = self.element(of, place)?;
                self.steps.push(Step::Elements { of, left: left - 1 });
                self.steps.extend(element);
                Ok(())
            }
            Step::Tags { of, left } => self.tag(of, left - 1, place),
            Step::Tagged(field) => {
                let inner = self.field(field, place, routes)?;
                self.steps.extend(inner);
                Ok(())
            }
            Step::TagEnd { tag, left } => match place.left().checked_sub(left) {
                Some(0) => Ok(()),
                Some(left) => Err(Fault::TagSize { tag, left }.into()),
                None => Err(Fault::Truncated { needed: left - place.left(), left: 0 }.into()),
            },
            Step::Tail => self.tail(place, routes),
        }
    }

    fn fields(
        &mut self,
        of: &'static Struct,
        next: usize,
        place: &mut Place<'_>,
        routes: &impl Routes,
    ) -> Result<(), Stop> {
        let version = self.version;
        let mut fields = of.fields.iter().enumerate().skip(next);
        let Some((index, field)) = fields.find(|(_, field)| field.is_plain(version)) else {
            return self.fields_end(of, place);
        };
        if self.steps.is_empty() && field.name == NODE_ENDPOINTS {
            self.steps.push(Step::Tail);
            return Ok(());
        }
        if let [leader, epoch] = of.fields
            && (leader.name, epoch.name) == ("LeaderId", "LeaderEpoch")
        {
            self.field = leader.name;
            self.leader(place, routes)?;
            self.steps.push(Step::Fields { of, next: of.fields.len() });
            return Ok(());
        }
        let inner = self.field(field, place, routes)?;
        self.steps.push(Step::Fields { of, next: index + 1 });
        self.steps.extend(inner);
        Ok(())
    }

    fn fields_end(&mut self, of: &'static Struct, place: &mut Place<'_>) -> Result<(), Stop> {
        if !self.flexible {
            return Ok(());
        }
        if self.steps.is_empty() {
            self.steps.push(Step::Tail);
            return Ok(());
        }
        let (count, width) = place.varint(0)?;
        let left = count as usize;
        // A tag takes two bytes at least: its number and its size.
        fits(left, 2, place.left() - width)?;
        self.passing = width;
        self.steps.push(Step::Tags { of, left });
        Ok(())
    }

    /// Reads a field; what it consists of, if it is not read yet.
    fn field(
        &mut self,
        field: &'static Field,
        place: &mut Place<'_>,
        routes: &impl Routes,
    ) -> Result<Option<Step>, Stop> {
        self.field = field.name;
        let nullable = field.nullable.contains(self.version);
        if field.array {
            return self.array(field.of, nullable, place);
        }
        match field.of {
            Type::Struct(of) if nullable => {
                let [marker] = place.fixed()?;
                self.passing = 1;
                match marker as i8 {
                    1 => Ok(Some(Step::Fields { of, next: 0 })),
                    -1 => Ok(None),
                    marker => Err(Fault::Marker { marker }.into()),
                }
            }
            Type::Struct(of) => Ok(Some(Step::Fields { of, next: 0 })),
            of => {
                if field.name == "PreferredReadReplica" {
                    self.replica(place, routes)?;
                }
                self.value(of, nullable, place)?;
                Ok(None)
            }
        }
    }

    fn element(&mut self, of: Type, place: &mut Place<'_>) -> Result<Option<Step>, Stop> {
        if let Type::Struct(of) = of {
            return Ok(Some(Step::Fields { of, next: 0 }));
        }
        self.value(of, false, place)?;
        Ok(None)
    }

    fn array(
        &mut self,
        of: Type,
        nullable: bool,
        place: &mut Place<'_>,
    ) -> Result<Option<Step>, Stop> {
        let (count, width) = self.length(false, nullable, place)?;
        let left = count.unwrap_or(0);
        fits(left, of.least_size(self.version, self.flexible).max(1), place.left() - width)?;
        if let Some(size) = of.fixed_size() {
            // They fit.
            self.passing = width + left * size;
            return Ok(None);
        }
        self.passing = width;
        Ok((left > 0).then_some(Step::Elements { of, left }))
    }

    /// Passes one value, of any length.
    fn value(&mut self, of: Type, nullable: bool, place: &mut Place<'_>) -> Result<(), Stop> {
        let bytes = if let Some(size) = of.fixed_size() {
            size
        } else {
            let is_text = matches!(of, Type::String);
            let (bytes, width) = self.length(is_text, nullable, place)?;
            let bytes = bytes.unwrap_or(0);
            if is_text && bytes > MAX_STRING_BYTES {
                return Err(Fault::StringTooLong { bytes }.into());
            }
            bytes + width
        };
        place.within(bytes)?;
        self.passing = bytes;
        Ok(())
    }

    /// A length, nothing for null, and how many bytes it takes.
    fn length(
        &self,
        is_text: bool,
        nullable: bool,
        place: &mut Place<'_>,
    ) -> Result<(Option<usize>, usize), Stop> {
        let (length, width) = if self.flexible {
            let (length, width) = place.varint(0)?;
            (i64::from(length) - 1, width)
        } else if is_text {
            (i64::from(i16::from_be_bytes(place.fixed()?)), 2)
        } else {
            (i64::from(i32::from_be_bytes(place.fixed()?)), 4)
        };
        match length {
            0.. => Ok((Some(length as usize), width)),
            -1 if nullable => Ok((None, width)),
            -1 => Err(Fault::Null.into()),
            _ => Err(Fault::NegativeLength { length: length as i32 }.into()),
        }
    }

    fn tag(&mut self, of: &'static Struct, left: usize, place: &mut Place<'_>) -> Result<(), Stop> {
        let (tag, number_width) = place.varint(0)?;
        let (size, size_width) = place.varint(number_width)?;
        let head = number_width + size_width;
        let bytes = head + size as usize;
        place.within(bytes)?;
        let is_tag = |field: &&Field| field.tagged.is_some_and(|(number, _)| number == tag);
        match of.fields.iter().find(is_tag) {
            Some(field) if field.is_tagged(self.version) => {
                self.passing = head;
                let end = Step::TagEnd { tag, left: place.left() - bytes };
                self.steps.extend([Step::Tags { of, left }, end, Step::Tagged(field)]);
                return Ok(());
            }
            Some(field) => {
                self.field = field.name;
                return Err(Fault::Tag { tag }.into());
            }
            None if tag > i32::MAX as u32 => return Err(Fault::TagTooLarge { tag }.into()),
            None if bytes < tags::RENAMED_BYTES_MIN => self.passing = bytes,
            None => {
                let renamed = tags::renamed(tag, bytes);
                place.next(renamed.len())?.copy_from_slice(&renamed);
                place.pass(renamed.len(), false);
                (self.passing, self.erases) = (bytes - renamed.len(), true);
                self.done.edits += 1;
            }
        }
        self.steps.push(Step::Tags { of, left });
        Ok(())
    }

    /// Leader and epoch (KIP-951): none, if the leader has no route.
    fn leader(&mut self, place: &mut Place<'_>, routes: &impl Routes) -> Result<(), Stop> {
        let [a, b, c, d, ..] = place.fixed::<8>()?;
        let leader = i32::from_be_bytes([a, b, c, d]);
        if leads_nowhere(routes, leader) {
            place.next(8)?.copy_from_slice(&[NO_NODE.to_be_bytes(); 2].concat());
            self.done.edits += 2;
        }
        self.passing = 8;
        Ok(())
    }

    /// The replica to read from (KIP-392): none, if it has no route.
    fn replica(&mut self, place: &mut Place<'_>, routes: &impl Routes) -> Result<(), Stop> {
        let replica = i32::from_be_bytes(place.fixed()?);
        if leads_nowhere(routes, replica) {
            place.next(4)?.copy_from_slice(&NO_NODE.to_be_bytes());
            self.done.edits += 1;
        }
        Ok(())
    }

    fn tail(&mut self, place: &mut Place<'_>, routes: &impl Routes) -> Result<(), Stop> {
        let (api, version, bytes) = (self.message.name, self.version, place.left());
        if bytes > HELD_BYTES_MAX {
            return Err(Stop::Tail(StreamError::TailTooLarge { api, version, bytes }));
        }
        let (message, before) = (self.message, self.body_bytes - bytes);
        let tail = place.next(bytes)?;
        let found =
            tail::rewrite_tail(message, version, tail, before, routes).map_err(Stop::Tail)?;
        self.done.edits += found.edits;
        self.done.nodes.extend(found.nodes);
        self.passing = bytes;
        Ok(())
    }
}

/// Holds that `count` of at least `least` bytes fit in `left`.
fn fits(count: usize, least: usize, left: usize) -> Result<(), Fault> {
    if count > left / least { Err(Fault::Count { count, least, left }) } else { Ok(()) }
}
