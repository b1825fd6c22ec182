//! `#[projection(...)]`: the manifest, `Meta` with the parts that were asked for, and the exports.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::Parser;
use syn::spanned::Spanned;
use syn::{
    Error, Expr, FnArg, GenericArgument, Ident, ItemFn, Lifetime, LitStr, Path, PathArguments,
    Result, ReturnType, Type,
};

use crate::attributes;

pub(crate) fn expand(arguments: TokenStream, function: TokenStream) -> Result<TokenStream> {
    let arguments = Arguments::read(arguments)?;
    let function: ItemFn = syn::parse2(function)?;
    let event = check_signature(&function)?;
    let meta = meta_code(&arguments.meta);
    let projection = projection_code(&arguments, &function, &event);
    Ok(quote! {
        // Events come by value even where a projection only looks at them.
        #[allow(clippy::needless_pass_by_value)]
        #function
        #meta
        #projection
        #[cfg(target_arch = "wasm32")]
        ::retell_sdk::__export!(Projection);
    })
}

struct Arguments {
    name: LitStr,
    version: Option<LitStr>,
    tables: Vec<Path>,
    meta: Vec<&'static Part>,
    /// Fields of events, each with the table that it is a key of.
    keys: Vec<(Ident, Path)>,
    after_replay: Vec<(Ident, Expr)>,
}

impl Arguments {
    fn read(arguments: TokenStream) -> Result<Self> {
        let mut name = None;
        let mut version = None;
        let mut tables = None;
        let mut meta_parts = None;
        let mut keys = Vec::new();
        let mut after_replay = Vec::new();
        let parser = syn::meta::parser(|meta| {
            if meta.path.is_ident("name") {
                attributes::once(&mut name, attributes::value(&meta)?, &meta)
            } else if meta.path.is_ident("version") {
                attributes::once(&mut version, attributes::value(&meta)?, &meta)
            } else if meta.path.is_ident("tables") {
                attributes::once(&mut tables, attributes::list(&meta)?, &meta)
            } else if meta.path.is_ident("meta") {
                attributes::once(&mut meta_parts, attributes::list::<Ident>(&meta)?, &meta)
            } else if meta.path.is_ident("keys") {
                meta.parse_nested_meta(|field| {
                    let name = field.path.require_ident()?.clone();
                    keys.push((name, attributes::value(&field)?));
                    Ok(())
                })
            } else if meta.path.is_ident("after_replay") {
                meta.parse_nested_meta(|dialect| {
                    let variant = match dialect.path.get_ident() {
                        Some(ident) if ident == "sqlite" => Ident::new("Sqlite", ident.span()),
                        Some(ident) if ident == "postgres" => Ident::new("Postgres", ident.span()),
                        _ => return Err(dialect.error("a dialect is `sqlite` or `postgres`")),
                    };
                    after_replay.push((variant, attributes::value(&dialect)?));
                    Ok(())
                })
            } else {
                let known = "`name`, `version`, `tables`, `meta`, `keys` and `after_replay`";
                Err(attributes::unknown(&meta, known))
            }
        });
        parser.parse2(arguments)?;

        let missing = |what| Error::new(proc_macro2::Span::call_site(), what);
        if let Some(version) = &version {
            check_version(version)?;
        }
        Ok(Self {
            name: name
                .ok_or_else(|| missing("a projection needs a name: `name = \"articles\"`"))?,
            version,
            tables: tables
                .filter(|tables: &Vec<Path>| !tables.is_empty())
                .ok_or_else(|| missing("a projection needs tables: `tables(Article)`"))?,
            meta: meta_parts
                .unwrap_or_default()
                .iter()
                .map(find_part)
                .collect::<Result<_>>()?,
            keys,
            after_replay,
        })
    }
}

/// Three numbers with dots between; what may follow them is left to the host.
fn check_version(version: &LitStr) -> Result<()> {
    const BYTES_MAX: usize = 64;
    let text = version.value();
    if text.len() > BYTES_MAX {
        let message = format!("a version has at most {BYTES_MAX} bytes");
        return Err(Error::new(version.span(), message));
    }
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<_> = core.split('.').collect();
    let well_formed = |number: &&str| {
        number
            .parse::<u64>()
            .is_ok_and(|value| value.to_string() == **number)
    };
    if numbers.len() == 3 && numbers.iter().all(well_formed) {
        return Ok(());
    }
    Err(Error::new(
        version.span(),
        "a version is three numbers, such as \"1.0.0\"",
    ))
}

/// The event type of a function of the right shape.
fn check_signature(function: &ItemFn) -> Result<Type> {
    let signature = &function.sig;
    let expected =
        "a projection is `fn project(event: Events, meta: &Meta, db: &mut Db) -> Result<()>`";
    if let Some(token) = &signature.asyncness {
        return Err(Error::new_spanned(
            token,
            format!("{expected}; it cannot be async"),
        ));
    }
    if let Some(token) = &signature.unsafety {
        return Err(Error::new_spanned(
            token,
            format!("{expected}; it cannot be unsafe"),
        ));
    }
    if let ReturnType::Default = signature.output {
        return Err(Error::new_spanned(
            &signature.ident,
            format!("{expected}; it returns nothing"),
        ));
    }
    let inputs: Vec<_> = signature.inputs.iter().collect();
    let [FnArg::Typed(event), FnArg::Typed(meta), FnArg::Typed(db)] = inputs[..] else {
        return Err(Error::new_spanned(&signature.inputs, expected));
    };
    if !matches!(&*meta.ty, Type::Reference(meta) if meta.mutability.is_none()) {
        return Err(Error::new_spanned(
            &meta.ty,
            format!("{expected}; this is `&Meta`"),
        ));
    }
    if !matches!(&*db.ty, Type::Reference(db) if db.mutability.is_some()) {
        return Err(Error::new_spanned(
            &db.ty,
            format!("{expected}; this is `&mut Db`"),
        ));
    }
    if matches!(&*event.ty, Type::Reference(_)) {
        return Err(Error::new_spanned(
            &event.ty,
            format!("{expected}; the event is not a reference"),
        ));
    }
    Ok(with_lifetimes_elided((*event.ty).clone()))
}

/// `Events<'a>` becomes `Events<'_>`: outside of the function, `'a` means nothing.
fn with_lifetimes_elided(mut ty: Type) -> Type {
    if let Type::Path(path) = &mut ty {
        for segment in &mut path.path.segments {
            let PathArguments::AngleBracketed(arguments) = &mut segment.arguments else {
                continue;
            };
            for argument in &mut arguments.args {
                if let GenericArgument::Lifetime(lifetime) = argument {
                    *lifetime = Lifetime::new("'_", lifetime.span());
                }
            }
        }
    }
    ty
}

fn projection_code(arguments: &Arguments, function: &ItemFn, event: &Type) -> TokenStream {
    let Arguments {
        name,
        tables,
        keys,
        after_replay,
        ..
    } = arguments;
    let project = &function.sig.ident;
    let of_crate = || quote!(::core::env!("CARGO_PKG_VERSION"));
    let version = arguments
        .version
        .as_ref()
        .map_or_else(of_crate, |version| quote!(#version));
    let parts = arguments
        .meta
        .iter()
        .map(|part| Ident::new(part.flag, function.sig.span()));
    let (dialects, sql): (Vec<_>, Vec<_>) = after_replay
        .iter()
        .map(|(dialect, sql)| (dialect, sql))
        .unzip();
    let definitions = tables
        .iter()
        .map(|table| quote_spanned!(table.span()=> <#table as ::retell_sdk::Table>::definition()));
    let register = tables
        .iter()
        .map(|table| quote_spanned!(table.span()=> tables.add::<#table>();));
    let decode = quote_spanned!(event.span()=> <#event as ::retell_sdk::Event<'_>>::decode(row)?);
    let distinct = distinct_tables(tables);
    let (hints, fetches) = keys_code(keys);
    let name_check = attributes::check_name(&name.value(), name.span());
    let ending_check = quote_spanned! {name.span()=>
        const _: () = ::core::assert!(
            ::retell_sdk::__private::names::version_ending(#name) == 0,
            "this name is not allowed: `_2` and `_v2` at the end are reserved for the names of \
             major versions; leave it off, the version says it",
        );
    };
    quote! {
        #name_check
        #ending_check
        #distinct

        /// The projection, to be named in tests.
        #[derive(Debug, Clone, Copy)]
        #[allow(unreachable_pub)]
        pub struct Projection;

        #[automatically_derived]
        impl ::retell_sdk::Projection for Projection {
            fn manifest() -> ::retell_sdk::__private::Manifest {
                let shapes = ::retell_sdk::__private::Shapes::of::<#event>();
                let tables = ::std::vec![#(#definitions),*];
                ::retell_sdk::__private::Manifest {
                    hints: #hints,
                    name: ::std::string::String::from(#name),
                    version: ::std::string::String::from(#version),
                    shapes: shapes.into_shapes(),
                    tables,
                    #[allow(clippy::needless_update)]
                    envelope: ::retell_sdk::__private::EnvelopeParts {
                        #(#parts: true,)*
                        ..::core::default::Default::default()
                    },
                    after_replay: ::std::vec![#(
                        ::retell_sdk::__private::AfterReplay {
                            dialect: ::retell_sdk::__private::Dialect::#dialects,
                            sql: ::std::string::String::from(#sql),
                        }
                    ),*],
                }
            }

            fn apply(
                batch: &::retell_sdk::__private::Batch,
                host: &mut dyn ::retell_sdk::__private::Host,
            ) -> ::core::result::Result<
                ::retell_sdk::__private::ChangeSet,
                ::retell_sdk::__private::Failure,
            > {
                static ARMS: ::std::sync::OnceLock<::std::vec::Vec<u16>> =
                    ::std::sync::OnceLock::new();
                let arms =
                    ARMS.get_or_init(|| ::retell_sdk::__private::Shapes::of::<#event>().arms());
                ::retell_sdk::__private::run(
                    batch,
                    host,
                    |tables| { #(#register)* },
                    arms,
                    #fetches,
                    |row, db| #project(
                        #decode,
                        &Meta { envelope: ::retell_sdk::__private::Envelope::new(row) },
                        db,
                    ),
                )
            }
        }
    }
}

/// The manifest's hints for the fields that are keys, and what `apply` fetches by them.
fn keys_code(keys: &[(Ident, Path)]) -> (TokenStream, TokenStream) {
    if keys.is_empty() {
        return (quote!(::std::vec![]), quote!(&[]));
    }
    let keys = keys.iter().map(|(field, table)| {
        let name = attributes::name(field);
        quote_spanned!(table.span()=> (#name, <#table as ::retell_sdk::Table>::NAME))
    });
    let hints = quote!(::retell_sdk::__private::hints(&shapes, &tables, &[#(#keys),*]));
    let fetches = quote! {{
        static FETCHES: ::std::sync::OnceLock<::std::vec::Vec<::retell_sdk::__private::Fetch>> =
            ::std::sync::OnceLock::new();
        FETCHES.get_or_init(|| {
            let manifest = <Self as ::retell_sdk::Projection>::manifest();
            ::retell_sdk::__private::Fetch::all(&manifest)
        })
    }};
    (hints, fetches)
}

/// Code that does not compile when two of the tables have one name. Only the compiler knows the
/// names.
fn distinct_tables(tables: &[Path]) -> TokenStream {
    let pairs = tables.iter().enumerate().flat_map(|(i, table)| {
        tables[..i].iter().map(move |other| {
            quote_spanned! {table.span()=>
                const _: () = ::core::assert!(
                    !::retell_sdk::__private::same(
                        <#other as ::retell_sdk::Table>::NAME,
                        <#table as ::retell_sdk::Table>::NAME,
                    ),
                    "another of these tables has the same name: give one \
                     `#[table(name = \"...\")]`",
                );
            }
        })
    });
    quote!(#(#pairs)*)
}

/// A part of the envelope that can be asked for.
struct Part {
    name: &'static str,
    /// The field of the manifest's envelope.
    flag: &'static str,
    doc: &'static str,
    kind: PartKind,
}

enum PartKind {
    Number,
    Time,
    MaybeTime,
    Text,
    Json,
}

const PARTS: [Part; 8] = [
    Part {
        name: "revision",
        flag: "revision",
        doc: "The place of the event in its stream, from 1.",
        kind: PartKind::Number,
    },
    Part {
        name: "stream",
        flag: "stream",
        doc: "The stream of the event: usually the entity that it is about.",
        kind: PartKind::Text,
    },
    Part {
        name: "id",
        flag: "id",
        doc: "The id of the event, unique in the log.",
        kind: PartKind::Text,
    },
    Part {
        name: "time",
        flag: "time",
        doc: "When it happened: the writer's time, or the recorded one where the writer gave none.",
        kind: PartKind::Time,
    },
    Part {
        name: "occurred_at",
        flag: "occurred_at",
        doc: "The writer's time, if the writer gave one.",
        kind: PartKind::MaybeTime,
    },
    Part {
        name: "recorded_at",
        flag: "recorded_at",
        doc: "When the log recorded the event; it never decreases along the log.",
        kind: PartKind::Time,
    },
    Part {
        name: "metadata",
        flag: "metadata",
        doc: "The metadata that the writer gave; null if none. Fails on U+0000 in a text.",
        kind: PartKind::Json,
    },
    Part {
        name: "event_type",
        flag: "type_name",
        doc: "The type of the event.",
        kind: PartKind::Text,
    },
];

fn find_part(name: &Ident) -> Result<&'static Part> {
    PARTS.iter().find(|part| name == part.name).ok_or_else(|| {
        let known: Vec<_> = PARTS.iter().map(|part| part.name).collect();
        let message = if name == "position" {
            "`position` is always there; leave it out".to_owned()
        } else {
            format!("unknown part of an event: there are {}", known.join(", "))
        };
        Error::new(name.span(), message)
    })
}

fn meta_code(parts: &[&Part]) -> TokenStream {
    let methods = parts.iter().map(
        |Part {
             name, doc, kind, ..
         }| {
            let name = Ident::new(name, proc_macro2::Span::call_site());
            let (ty, value) = match kind {
                PartKind::Number => (quote!(u64), quote!(::retell_sdk::__private::Envelope::#name(self.envelope))),
                PartKind::Time => (
                    quote!(::retell_sdk::Timestamp),
                    quote!(::retell_sdk::__private::Envelope::#name(self.envelope)),
                ),
                PartKind::MaybeTime => (
                    quote!(::core::option::Option<::retell_sdk::Timestamp>),
                    quote!(::retell_sdk::__private::Envelope::#name(self.envelope)),
                ),
                PartKind::Text => (quote!(&'a str), quote!(::retell_sdk::__private::Envelope::#name(self.envelope))),
                PartKind::Json => (
                    quote!(::retell_sdk::Result<::retell_sdk::Json>),
                    quote! {
                        ::retell_sdk::Json::from_text(::retell_sdk::__private::Envelope::#name(self.envelope))
                            .map_err(|error| error.context("metadata"))
                    },
                ),
            };
            quote! {
                #[doc = #doc]
                pub fn #name(&self) -> #ty {
                    #value
                }
            }
        },
    );
    quote! {
        /// What is known of an event beside its payload: its position, and the parts that
        /// `#[projection(meta(...))]` asks for.
        #[derive(Debug, Clone, Copy)]
        #[allow(unreachable_pub)]
        pub struct Meta<'a> {
            envelope: ::retell_sdk::__private::Envelope<'a>,
        }

        #[allow(dead_code, unreachable_pub, clippy::pedantic)]
        impl<'a> Meta<'a> {
            /// The place of the event in the whole log, from 1.
            pub fn position(&self) -> u64 {
                ::retell_sdk::__private::Envelope::position(self.envelope)
            }

            #(#methods)*
        }
    }
}
