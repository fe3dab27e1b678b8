//! Protobuf texts into descriptors: bounded before they are parsed, from memory alone.
//!
//! `protox` parses, `prost-reflect` resolves names; between them stands what a stranger's text must not ask of them. Options, services,
//! extensions and source locations go: no record depends on them, and resolving options costs most. What public imports make visible is
//! worked out here, since prost-reflect follows them once for every path that leads to a file.

use std::collections::{BTreeSet, HashMap};

use prost_reflect::prost_types::{DescriptorProto, EnumDescriptorProto, EnumOptions, FileDescriptorProto, MessageOptions};
use prost_reflect::{DescriptorError, DescriptorPool, FileDescriptor};
use protox::file::{File, FileResolver, GoogleFileResolver};

use super::{Reference, fault, known};
use crate::avro::limits::SchemaLimits;
use crate::avro::schema::SchemaFault;

/// What the text itself is called; no import can be called so.
const MAIN: &str = "schema.proto/";

/// Longest word of a parser that is repeated to people, in characters: strangers choose them.
const WORDS_MAX: usize = 400;

/// The file of `text`, with everything that it imports from `references`, from Protobuf's own files and from those that registries have.
///
/// An import that is none of these is left out, as registries do that know files of their own: a type that is missing is named then.
///
/// # Errors
/// [`SchemaFault`] when a bound is exceeded or the texts make no Protobuf schema.
pub(super) fn compile(text: &str, references: &[Reference], limits: &SchemaLimits) -> Result<FileDescriptor, SchemaFault> {
    let bytes = references.iter().map(|reference| reference.text.len()).sum::<usize>() + text.len();
    within(bytes, limits.bytes_max, "bytes", MAIN)?;
    let mut reading = Reading { references, google: GoogleFileResolver::new(), limits, objects: 0, depth: 0, missing: BTreeSet::new() };
    let mut files = vec![reading.parse(MAIN, text)?];
    let mut next = 0;
    while let Some(file) = files.get(next) {
        let known: BTreeSet<String> = files.iter().map(|file| file.name().to_owned()).collect();
        let imports: BTreeSet<String> = file.dependency.iter().filter(|import| !known.contains(*import)).cloned().collect();
        for import in imports {
            files.extend(reading.import(&import)?);
        }
        next += 1;
    }
    make_visible(&mut files);
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_protos(files.iter().cloned()).map_err(|error| unresolved(&files, &error, &reading.missing))?;
    pool.get_file_by_name(MAIN).ok_or_else(|| fault("", "it makes no file".into()))
}

/// Texts on their way to descriptors, and how much was met in them.
struct Reading<'r> {
    references: &'r [Reference],
    google: GoogleFileResolver,
    limits: &'r SchemaLimits,
    objects: usize,
    depth: usize,
    missing: BTreeSet<String>,
}

impl Reading<'_> {
    fn import(&mut self, name: &str) -> Result<Option<FileDescriptorProto>, SchemaFault> {
        if let Ok(file) = self.google.open_file(name) {
            let mut file = FileDescriptorProto::from(file);
            reduce(&mut file);
            return Ok(Some(file));
        }
        let references = self.references;
        match references.iter().find(|reference| reference.name == name) {
            Some(reference) => self.parse(name, &reference.text).map(Some),
            None => match known::text(name) {
                Some(text) => self.parse(name, &text).map(Some),
                None => {
                    self.missing.insert(name.to_owned());
                    Ok(None)
                }
            },
        }
    }

    fn parse(&mut self, name: &str, text: &str) -> Result<FileDescriptorProto, SchemaFault> {
        self.depth += screen(name, text)?;
        within(self.depth, self.limits.depth_max, "levels of brackets", name)?;
        let file = File::from_source(name, text).map_err(|error| {
            let told: String = format!("{error:?}").chars().take(WORDS_MAX).collect();
            match told.strip_prefix(MAIN).unwrap_or(&told).trim_start_matches(':').split_once(": ") {
                Some((place, why)) => fault(place, why.to_owned()),
                None => fault(name, told),
            }
        })?;
        let mut file = FileDescriptorProto::from(file);
        self.count(&file)?;
        reduce(&mut file);
        Ok(file)
    }

    /// Holds what stands in a file to the bounds, together with what stands in the others.
    fn count(&mut self, file: &FileDescriptorProto) -> Result<(), SchemaFault> {
        let mut left: Vec<(usize, &DescriptorProto)> = file.message_type.iter().map(|message| (file.package().len(), message)).collect();
        let mut enums: Vec<(usize, &EnumDescriptorProto)> = file.enum_type.iter().map(|found| (file.package().len(), found)).collect();
        let mut longest = file.package().len();
        self.objects += file.dependency.len();
        while let Some((above, message)) = left.pop() {
            let name = above + 1 + message.name().len();
            let fields = message.field.iter().map(|field| field.name().len());
            let oneofs = message.oneof_decl.iter().map(|oneof| oneof.name().len());
            longest = longest.max(name + 1 + fields.chain(oneofs).max().unwrap_or(0));
            self.objects += 1 + message.field.len() + message.oneof_decl.len();
            self.objects += message.reserved_range.len() + message.reserved_name.len() + message.extension_range.len();
            left.extend(message.nested_type.iter().map(|nested| (name, nested)));
            enums.extend(message.enum_type.iter().map(|found| (name, found)));
        }
        for (above, found) in enums {
            let values = found.value.iter().map(|value| value.name().len());
            longest = longest.max(above + 2 + found.name().len() + values.max().unwrap_or(0));
            self.objects += 1 + found.value.len() + found.reserved_range.len() + found.reserved_name.len();
        }
        within(longest, self.limits.name_bytes_max, "bytes in a full name", file.name())?;
        within(self.objects, self.limits.objects_max, "messages, fields and enum values", file.name())
    }
}

fn within(found: usize, bound: usize, what: &str, file: &str) -> Result<(), SchemaFault> {
    match found <= bound {
        true => Ok(()),
        false => Err(SchemaFault::TooLarge { what: format!("{found} {what} ({})", shown(file)), bound }),
    }
}

/// A file's name for people.
fn shown(file: &str) -> &str {
    if file == MAIN { "in the schema itself" } else { file }
}

/// Looks at a text without recursion before anything parses it: its deepest nesting of brackets. A byte that can stand in no token ends
/// it, because the parser would make an error of each.
fn screen(name: &str, text: &str) -> Result<usize, SchemaFault> {
    let (mut depth, mut deepest) = (0usize, 0usize);
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        match (byte, bytes.peek().map(|(_, next)| *next)) {
            (b'/', Some(b'/')) => while bytes.next_if(|(_, byte)| *byte != b'\n').is_some() {},
            (b'/', Some(b'*')) => {
                bytes.next();
                let mut last = b' ';
                for (_, byte) in bytes.by_ref() {
                    if (last, byte) == (b'*', b'/') {
                        break;
                    }
                    last = byte;
                }
            }
            (b'"' | b'\'', _) => {
                let mut is_escaped = false;
                while let Some((_, inner)) = bytes.next_if(|(_, inner)| *inner != b'\n') {
                    match inner {
                        _ if is_escaped => is_escaped = false,
                        b'\\' => is_escaped = true,
                        quote if quote == byte => break,
                        _ => {}
                    }
                }
            }
            (b'{' | b'[' | b'(' | b'<', _) => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (b'}' | b']' | b')' | b'>', _) => depth = depth.saturating_sub(1),
            // A byte order mark may stand in front.
            (b'\xef' | b'\xbb' | b'\xbf', _) if at < 3 => {}
            (byte, _) if byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace() || b"_.,;:=+-/#\x0b".contains(&byte) => {}
            (byte, _) => {
                let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
                return Err(fault(
                    &format!("{}, line {line}", shown(name)),
                    format!("byte {byte:#04x} can stand in comments and texts only"),
                ));
            }
        }
    }
    Ok(deepest)
}

/// Takes away what no record depends on.
fn reduce(file: &mut FileDescriptorProto) {
    file.source_code_info = None;
    file.options = None;
    file.service.clear();
    file.extension.clear();
    file.enum_type.iter_mut().for_each(reduce_enum);
    file.message_type.iter_mut().for_each(reduce_message);
}

/// Recursion is bounded by the parser: messages nest 31 levels at most.
fn reduce_message(message: &mut DescriptorProto) {
    let map_entry = message.options.take().and_then(|options| options.map_entry);
    message.options = map_entry.map(|_| MessageOptions { map_entry, ..MessageOptions::default() });
    message.extension.clear();
    message.extension_range.iter_mut().for_each(|range| range.options = None);
    message.field.iter_mut().for_each(|field| field.options = None);
    message.oneof_decl.iter_mut().for_each(|oneof| oneof.options = None);
    message.enum_type.iter_mut().for_each(reduce_enum);
    message.nested_type.iter_mut().for_each(reduce_message);
}

/// Two names for a number need an option to be allowed, which cannot be told from others before they are resolved.
fn reduce_enum(found: &mut EnumDescriptorProto) {
    found.options = Some(EnumOptions { allow_alias: Some(true), ..EnumOptions::default() });
    found.value.iter_mut().for_each(|value| value.options = None);
}

/// Makes each file import by itself what its imports make public.
fn make_visible(files: &mut [FileDescriptorProto]) {
    let known: BTreeSet<String> = files.iter().map(|file| file.name().to_owned()).collect();
    let public_of = |file: &FileDescriptorProto| -> Vec<String> {
        let at = |index: &i32| usize::try_from(*index).ok().and_then(|index| file.dependency.get(index)).cloned();
        file.public_dependency.iter().filter_map(at).collect()
    };
    let public: HashMap<String, Vec<String>> = files.iter().map(|file| (file.name().to_owned(), public_of(file))).collect();
    for file in files {
        let mut visible = BTreeSet::new();
        let mut left = std::mem::take(&mut file.dependency);
        while let Some(import) = left.pop() {
            if known.contains(&import) && visible.insert(import.clone()) {
                left.extend(public.get(&import).into_iter().flatten().cloned());
            }
        }
        file.dependency = visible.into_iter().collect();
        file.public_dependency.clear();
        file.weak_dependency.clear();
    }
}

fn unresolved(files: &[FileDescriptorProto], error: &DescriptorError, missing: &BTreeSet<String>) -> SchemaFault {
    let mut why: String = error.to_string().chars().take(WORDS_MAX).collect();
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(String::as_str).take(8).collect();
        why += &format!("; not among the references: {}", names.join(", "));
    }
    let file = files.iter().find(|file| error.file() == Some(file.name()));
    fault(&file.zip(error.path()).map(|(file, path)| place(file, path)).unwrap_or_default(), why)
}

/// The names along a path of descriptor field numbers, such as `Reading.position`.
///
/// # Source
/// `google/protobuf/descriptor.proto`: a file's messages are field 4, its enums 5; a message's fields 2, messages 3, enums 4; an enum's values 2.
fn place(file: &FileDescriptorProto, path: &[i32]) -> String {
    let item = |at: i32| usize::try_from(at).unwrap_or(usize::MAX);
    let mut names = Vec::new();
    let (mut message, mut rest): (Option<&DescriptorProto>, &[i32]) = (None, path);
    while let [kind, at, below @ ..] = rest {
        let (fields, nested, enums) = match message {
            None => (None, &file.message_type, &file.enum_type),
            Some(message) => (Some(&message.field), &message.nested_type, &message.enum_type),
        };
        let is_file = message.is_none();
        match (is_file, kind) {
            (true, 4) | (false, 3) => {
                message = nested.get(item(*at));
                names.extend(message.map(DescriptorProto::name));
                rest = below;
                continue;
            }
            (true, 5) | (false, 4) => names.extend(enums.get(item(*at)).map(EnumDescriptorProto::name)),
            (false, 2) => names.extend(fields.and_then(|fields| fields.get(item(*at))).map(|field| field.name())),
            _ => {}
        }
        break;
    }
    names.join(".")
}
