//! Reading attributes: small pieces that several macros share.

use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;
use syn::ext::IdentExt;
use syn::meta::ParseNestedMeta;
use syn::parse::Parse;
use syn::punctuated::Punctuated;
use syn::{Attribute, Error, Ident, LitStr, Result, Token, parenthesized, token};

/// Calls `read` for each item of each attribute of that name: `#[name(item, item)]`.
pub(crate) fn each_item(
    attributes: &[Attribute],
    name: &str,
    mut read: impl FnMut(ParseNestedMeta<'_>) -> Result<()>,
) -> Result<()> {
    let attributes = attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident(name));
    attributes
        .into_iter()
        .try_for_each(|attribute| attribute.parse_nested_meta(&mut read))
}

/// The span of a marker such as `#[key]`, which takes no arguments.
pub(crate) fn marker(attributes: &[Attribute], name: &str) -> Result<Option<Span>> {
    let mut found = None;
    for attribute in attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident(name))
    {
        attribute.meta.require_path_only()?;
        if found
            .replace(attribute.path().segments[0].ident.span())
            .is_some()
        {
            return Err(Error::new_spanned(
                attribute,
                format!("`#[{name}]` stands here twice"),
            ));
        }
    }
    Ok(found)
}

/// Sets a value that may be given once.
pub(crate) fn once<T>(place: &mut Option<T>, value: T, meta: &ParseNestedMeta<'_>) -> Result<()> {
    if place.replace(value).is_some() {
        return Err(meta.error("given twice"));
    }
    Ok(())
}

/// `= value`.
pub(crate) fn value<T: Parse>(meta: &ParseNestedMeta<'_>) -> Result<T> {
    meta.value()?.parse()
}

/// `("a", "b")`, or `= "a"`.
pub(crate) fn texts(meta: &ParseNestedMeta<'_>) -> Result<Vec<LitStr>> {
    if meta.input.peek(token::Paren) {
        return list(meta);
    }
    Ok(vec![value(meta)?])
}

/// `(a, b)`.
pub(crate) fn list<T: Parse>(meta: &ParseNestedMeta<'_>) -> Result<Vec<T>> {
    let content;
    parenthesized!(content in meta.input);
    Ok(Punctuated::<T, Token![,]>::parse_terminated(&content)?
        .into_iter()
        .collect())
}

/// The error for an item that no macro knows.
pub(crate) fn unknown(meta: &ParseNestedMeta<'_>, known: &str) -> Error {
    meta.error(format!("unknown attribute: there are {known}"))
}

/// Code that does not compile, at this place, when a name breaks the rules that the contract has
/// for every name.
pub(crate) fn check_name(name: &str, span: Span) -> TokenStream {
    quote_spanned! {span=>
        const _: () = ::core::assert!(
            ::retell_sdk::__private::names::is_well_formed(#name),
            "this name is not allowed: use a lower-case letter, then at most 39 lower-case \
             letters, digits and underscores",
        );
        const _: () = ::core::assert!(
            ::retell_sdk::__private::names::reserved_prefix(#name).is_none(),
            "this name is not allowed: the prefixes `retell_`, `pg_` and `sqlite_` are reserved",
        );
    }
}

/// The same for what only columns may not be called.
pub(crate) fn check_column_name(name: &str, span: Span) -> TokenStream {
    quote_spanned! {span=>
        const _: () = ::core::assert!(
            !::retell_sdk::__private::names::is_system_column(#name),
            "this name is not allowed: PostgreSQL has a column of it in every table; keep the field, and \
             name its column with `#[column(name = \"...\")]`",
        );
    }
}

/// The name of an identifier, without `r#`.
pub(crate) fn name(ident: &Ident) -> String {
    ident.unraw().to_string()
}
