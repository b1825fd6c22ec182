//! The fields of one shape of event: how each is declared to the host, and taken from its column.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{
    Expr, ExprLit, Field, FieldsNamed, GenericArgument, Lifetime, Lit, LitStr, PathArguments,
    Result, Type,
};

use crate::attributes;

/// The code for the named fields of a struct or a variant.
pub(crate) struct FieldsCode {
    /// The fields of the manifest: an expression for each.
    pub(crate) declared: Vec<TokenStream>,
    /// What stands between the braces of the value: `name: <taken from row>`.
    pub(crate) taken: Vec<TokenStream>,
}

/// Types that arrive as they are; all others arrive as JSON.
const KNOWN: [&str; 14] = [
    "bool",
    "i8",
    "i16",
    "i32",
    "i64",
    "u8",
    "u16",
    "u32",
    "u64",
    "f64",
    "String",
    "Timestamp",
    "Uuid",
    "Json",
];

pub(crate) fn of(fields: &FieldsNamed, lifetime: &Lifetime) -> Result<FieldsCode> {
    let mut code = FieldsCode {
        declared: Vec::new(),
        taken: Vec::new(),
    };
    for (number, field) in fields.named.iter().enumerate() {
        let (declared, taken) = field_code(number, field, lifetime)?;
        code.declared.push(declared);
        code.taken.push(taken);
    }
    Ok(code)
}

#[derive(Default)]
struct FieldAttributes {
    path: Option<LitStr>,
    was: Vec<LitStr>,
    default: Option<Default>,
}

enum Default {
    OfType,
    Is(Box<Expr>),
}

fn read_attributes(field: &Field) -> Result<FieldAttributes> {
    let mut found = FieldAttributes::default();
    attributes::each_item(&field.attrs, "field", |meta| {
        if meta.path.is_ident("path") {
            attributes::once(&mut found.path, attributes::value(&meta)?, &meta)
        } else if meta.path.is_ident("was") {
            found.was.extend(attributes::texts(&meta)?);
            Ok(())
        } else if meta.path.is_ident("default") {
            let default = if meta.input.peek(syn::Token![=]) {
                Default::Is(Box::new(attributes::value(&meta)?))
            } else {
                Default::OfType
            };
            attributes::once(&mut found.default, default, &meta)
        } else {
            Err(attributes::unknown(&meta, "`path`, `was` and `default`"))
        }
    })?;
    for path in found.path.iter().chain(&found.was) {
        check_path(path)?;
    }
    Ok(found)
}

/// The rules of the contract for paths, so that a mistake is found before the module is deployed.
fn check_path(path: &LitStr) -> Result<()> {
    const BYTES_MAX: usize = 4096;
    const KEYS_MAX: usize = 127;
    let text = path.value();
    let keys = if text.starts_with('/') {
        text.matches('/').count()
    } else {
        text.split('.').count()
    };
    if text.len() > BYTES_MAX || keys > KEYS_MAX {
        let message = format!("a path has at most {KEYS_MAX} keys and {BYTES_MAX} bytes");
        return Err(syn::Error::new(path.span(), message));
    }
    if text.starts_with("$.") || text.starts_with("$[") {
        let message = "a path starts at the top of the payload without `$`: write `author.name`, \
                       or the JSON pointer `/authors/0/name`; for a key that is called `$`, write \
                       `/$/name`";
        return Err(syn::Error::new(path.span(), message));
    }
    if text.starts_with('/') {
        let mut escapes = text.split('~').skip(1);
        if !escapes.all(|rest| rest.starts_with(['0', '1'])) {
            return Err(syn::Error::new(
                path.span(),
                "`~` in a JSON pointer is written `~0`",
            ));
        }
    } else if text.split('.').any(str::is_empty) {
        return Err(syn::Error::new(path.span(), "a key in this path is empty"));
    }
    Ok(())
}

fn field_code(
    number: usize,
    field: &Field,
    lifetime: &Lifetime,
) -> Result<(TokenStream, TokenStream)> {
    let ident = field.ident.as_ref().expect("the field is named");
    let attributes = read_attributes(field)?;
    let name = attributes::name(ident);
    let first = attributes
        .path
        .as_ref()
        .map_or_else(|| name.clone(), LitStr::value);
    let paths = std::iter::once(first.clone()).chain(attributes.was.iter().map(LitStr::value));

    let (inner, options) = without_options(&field.ty);
    let span = inner.span();
    let (wants, take) = if is_known(inner) {
        let known = quote_spanned!(span=> <#inner as ::retell_sdk::EventField<#lifetime>>);
        (
            quote_spanned!(span=> #known::WANTS),
            quote_spanned!(span=> #known::take),
        )
    } else {
        forbid_references(inner)?;
        (
            quote!(::retell_sdk::__private::Wanted::Json),
            quote_spanned!(span=> ::retell_sdk::__private::take_json::<#inner>),
        )
    };

    let nullable = options > 0;
    let optional = nullable || attributes.default.is_some();
    let declared = quote! {
        ::retell_sdk::__private::field(#name, &[#(#paths),*], #wants, #optional, #nullable)
    };
    let row = quote!(row, #number, #first);
    let value = match (options, attributes.default) {
        (0, None) => quote_spanned!(span=> ::retell_sdk::__private::required(#row, #take)?),
        (0, Some(default)) => {
            let default = default_function(&default, inner);
            quote_spanned! {span=>
                ::retell_sdk::__private::defaulted(#row, #take, #default)?
            }
        }
        (1, None) => quote_spanned!(span=> ::retell_sdk::__private::optional(#row, #take)?),
        (2, None) => quote_spanned!(span=> ::retell_sdk::__private::patched(#row, #take)?),
        (_, None) => {
            let message = "two `Option`s tell missing from null; a third says nothing more";
            return Err(syn::Error::new_spanned(&field.ty, message));
        }
        (_, Some(_)) => {
            let message = "an `Option` is `None` when the field is missing; it takes no default";
            return Err(syn::Error::new_spanned(&field.ty, message));
        }
    };
    Ok((declared, quote!(#ident: #value)))
}

/// A function that makes the default.
fn default_function(default: &Default, ty: &Type) -> TokenStream {
    match default {
        Default::OfType => quote_spanned!(ty.span()=> ::core::default::Default::default),
        // A text for a `String` need not be written `"…".to_owned()`.
        Default::Is(expr) => match &**expr {
            Expr::Lit(ExprLit {
                lit: Lit::Str(text),
                ..
            }) => {
                quote_spanned!(text.span()=> || ::core::convert::From::from(#text))
            }
            expr => quote!(|| #expr),
        },
    }
}

/// The type inside of `Option`s, and how many there are.
fn without_options(ty: &Type) -> (&Type, usize) {
    let Type::Path(path) = bare(ty) else {
        return (bare(ty), 0);
    };
    let Some(last) = path
        .path
        .segments
        .last()
        .filter(|last| last.ident == "Option")
    else {
        return (bare(ty), 0);
    };
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return (bare(ty), 0);
    };
    match arguments.args.first() {
        Some(GenericArgument::Type(inner)) => {
            let (inner, options) = without_options(inner);
            (inner, options + 1)
        }
        _ => (bare(ty), 0),
    }
}

fn is_known(ty: &Type) -> bool {
    match ty {
        Type::Reference(reference) => {
            matches!(bare(&reference.elem), Type::Path(path) if path.path.is_ident("str"))
        }
        Type::Path(path) => path.path.segments.last().is_some_and(|last| {
            last.arguments.is_none() && KNOWN.iter().any(|&known| last.ident == known)
        }),
        _ => false,
    }
}

/// A text with an escape in it cannot be borrowed from JSON, and serde finds that out only when one
/// comes.
fn forbid_references(ty: &Type) -> Result<()> {
    match ty {
        Type::Reference(reference) if !is_raw_json(&reference.elem) => {
            let message = "this arrives as JSON, where a text with an escape cannot be borrowed: \
                           write `String` or `Cow<'a, str>` for a text";
            Err(syn::Error::new_spanned(ty, message))
        }
        Type::Path(path) => {
            let arguments = path.path.segments.iter().map(|segment| &segment.arguments);
            let arguments = arguments.filter_map(|arguments| match arguments {
                PathArguments::AngleBracketed(arguments) => Some(&arguments.args),
                _ => None,
            });
            arguments.flatten().try_for_each(|argument| match argument {
                GenericArgument::Type(ty) => forbid_references(ty),
                _ => Ok(()),
            })
        }
        Type::Tuple(tuple) => tuple.elems.iter().try_for_each(forbid_references),
        Type::Array(array) => forbid_references(&array.elem),
        Type::Slice(slice) => forbid_references(&slice.elem),
        Type::Group(group) => forbid_references(&group.elem),
        Type::Paren(paren) => forbid_references(&paren.elem),
        _ => Ok(()),
    }
}

/// serde_json's `RawValue` is a piece of the JSON as it is, escapes and all.
fn is_raw_json(ty: &Type) -> bool {
    let Type::Path(path) = bare(ty) else {
        return false;
    };
    let last = path.path.segments.last();
    last.is_some_and(|last| last.ident == "RawValue")
}

/// The type without the invisible groups in which `macro_rules` wraps it.
fn bare(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => bare(&group.elem),
        Type::Paren(paren) => bare(&paren.elem),
        ty => ty,
    }
}
