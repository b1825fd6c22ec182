//! `#[derive(Event)]`: shapes for the manifest, and code that takes events out of their columns.

use std::collections::HashMap;

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use quote::quote;
use syn::{
    Attribute, Data, DataEnum, DeriveInput, Error, Fields, FieldsNamed, GenericParam, Generics,
    Ident, Lifetime, LitStr, Result, Type, Variant,
};

use crate::attributes;
use crate::event_fields;

pub(crate) fn derive(input: TokenStream) -> Result<TokenStream> {
    let input: DeriveInput = syn::parse2(input)?;
    let target = Target::new(&input.ident, &input.generics)?;
    match &input.data {
        Data::Enum(data) => {
            forbid_event_attributes(&input.attrs)?;
            derive_enum(&target, data)
        }
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => derive_struct(&target, &input.attrs, Some(fields)),
            Fields::Unit => derive_struct(&target, &input.attrs, None),
            Fields::Unnamed(_) => Err(Error::new_spanned(
                &input.ident,
                "the fields of an event need names",
            )),
        },
        Data::Union(_) => Err(Error::new_spanned(
            &input.ident,
            "events are an enum or a struct",
        )),
    }
}

/// The type that derives, and the lifetime of the batch.
struct Target<'i> {
    ident: &'i Ident,
    /// `'a` of the type itself, so that fields can borrow; or one of our own.
    lifetime: Lifetime,
    arguments: TokenStream,
}

impl<'i> Target<'i> {
    fn new(ident: &'i Ident, generics: &'i Generics) -> Result<Self> {
        let mut lifetime = None;
        for parameter in &generics.params {
            match parameter {
                GenericParam::Lifetime(found) if lifetime.is_none() => {
                    lifetime = Some(found.lifetime.clone());
                }
                GenericParam::Lifetime(other) => {
                    let message = "events borrow from one batch: one lifetime is enough";
                    return Err(Error::new_spanned(other, message));
                }
                other => {
                    return Err(Error::new_spanned(
                        other,
                        "events cannot be generic over types",
                    ));
                }
            }
        }
        let arguments = lifetime
            .as_ref()
            .map_or_else(TokenStream::new, |own| quote!(<#own>));
        let lifetime = lifetime.unwrap_or_else(|| Lifetime::new("'retell", Span::call_site()));
        Ok(Self {
            ident,
            lifetime,
            arguments,
        })
    }

    /// `impl` of one of the traits of the SDK.
    fn implement(&self, of: &str, body: &TokenStream) -> TokenStream {
        let Self {
            ident,
            lifetime,
            arguments,
        } = self;
        let of = Ident::new(of, Span::call_site());
        quote! {
            #[automatically_derived]
            impl<#lifetime> ::retell_sdk::#of<#lifetime> for #ident #arguments {
                #body
            }
        }
    }

    fn implement_event(&self, arms: &Arms) -> TokenStream {
        let lifetime = &self.lifetime;
        let Arms { shapes, decode, .. } = arms;
        let numbers = 0u16..;
        let numbers = numbers.take(decode.len());
        self.implement(
            "Event",
            &quote! {
                fn shapes(out: &mut ::retell_sdk::__private::Shapes) {
                    #(#shapes)*
                }

                fn decode(
                    row: ::retell_sdk::__private::Row<#lifetime>,
                ) -> ::retell_sdk::Result<Self> {
                    match ::retell_sdk::__private::arm(row) {
                        #(#numbers => { #decode })*
                        _ => ::core::unreachable!("every shape has its arm"),
                    }
                }
            },
        )
    }
}

/// The ways in which an event can be decoded; each shape of the manifest knows the number of its.
#[derive(Default)]
struct Arms {
    /// Statements that add the shapes.
    shapes: Vec<TokenStream>,
    /// For each arm, an expression of type `Result<Self>`.
    decode: Vec<TokenStream>,
    /// For each variant, lists of the event types that it takes, older forms included.
    taken: Vec<TokenStream>,
}

impl Arms {
    /// Adds an arm; `shape` makes the statement from its number.
    fn add(&mut self, decode: TokenStream, shape: impl FnOnce(u16) -> TokenStream) {
        let number = u16::try_from(self.decode.len()).expect("fewer than 65,536 arms");
        self.shapes.push(shape(number));
        self.decode.push(decode);
    }

    /// A struct that has older forms of its own must not be used where nobody looks at them.
    fn forbid_older(&mut self, used: &Type, lifetime: &Lifetime) {
        let used = with_static(quote!(<#used as ::retell_sdk::Fields<#lifetime>>), lifetime);
        self.shapes.push(quote! {
            const _: () = ::core::assert!(
                !#used::HAS_OLDER,
                "a struct that is used here has older forms of its own, which nobody would look at: \
                 put `#[event(from = ...)]` on what uses it",
            );
        });
    }

    /// Adds the older shapes of a variant.
    fn add_older(&mut self, older: &[Type], names: &TokenStream, lifetime: &Lifetime) {
        for old in older {
            self.forbid_older(old, lifetime);
            let decode = quote! {
                <#old as ::retell_sdk::Fields<#lifetime>>::decode(row)
                    .map(::core::convert::From::from)
            };
            self.add(decode, |arm| quote!(out.add_fields::<#old>(#arm, #names);));
        }
    }
}

/// What `#[event(...)]` says.
#[derive(Default)]
struct EventAttributes {
    name: Option<LitStr>,
    was: Vec<LitStr>,
    any: Option<Span>,
    from: Vec<Type>,
}

impl EventAttributes {
    fn read(attributes: &[Attribute]) -> Result<Self> {
        let mut found = Self::default();
        attributes::each_item(attributes, "event", |meta| {
            if meta.path.is_ident("name") {
                let name = event_type(attributes::value(&meta)?)?;
                attributes::once(&mut found.name, name, &meta)
            } else if meta.path.is_ident("was") {
                for name in attributes::texts(&meta)? {
                    found.was.push(event_type(name)?);
                }
                Ok(())
            } else if meta.path.is_ident("from") {
                found.from.push(attributes::value(&meta)?);
                Ok(())
            } else if meta.path.is_ident("any") {
                let span = meta.path.segments[0].ident.span();
                attributes::once(&mut found.any, span, &meta)
            } else {
                Err(attributes::unknown(
                    &meta,
                    "`name`, `was`, `from` and `any`",
                ))
            }
        })?;
        if let (Some(any), true) = (found.any, found.name.is_some() || !found.was.is_empty()) {
            let message = "`any` takes every type that no other variant names; it has no name";
            return Err(Error::new(any, message));
        }
        Ok(found)
    }

    /// The event type, if it is given here.
    fn given_name(&self) -> Option<String> {
        if self.any.is_some() {
            return Some("*".to_owned());
        }
        self.name.as_ref().map(LitStr::value)
    }

    fn was(&self) -> Vec<String> {
        self.was.iter().map(LitStr::value).collect()
    }

    /// The event types of what has no struct to ask for a name.
    fn names(&self, ident: &Ident) -> Vec<String> {
        let name = self.given_name();
        let mut names = vec![name.unwrap_or_else(|| attributes::name(ident))];
        names.extend(self.was());
        names
    }
}

fn event_type(name: LitStr) -> Result<LitStr> {
    let text = name.value();
    if text.is_empty() || text.contains('\0') || text.len() > 512 {
        return Err(Error::new(
            name.span(),
            "an event type has 1 to 512 bytes and no NUL",
        ));
    }
    if text == "*" {
        return Err(Error::new(
            name.span(),
            "write `any` to take every other event type",
        ));
    }
    Ok(name)
}

fn forbid_event_attributes(attributes: &[Attribute]) -> Result<()> {
    match attributes
        .iter()
        .find(|attribute| attribute.path().is_ident("event"))
    {
        None => Ok(()),
        Some(attribute) => Err(Error::new_spanned(
            attribute,
            "`#[event(...)]` belongs on the variants",
        )),
    }
}

fn derive_struct(
    target: &Target<'_>,
    attributes: &[Attribute],
    fields: Option<&FieldsNamed>,
) -> Result<TokenStream> {
    let attributes = EventAttributes::read(attributes)?;
    let lifetime = &target.lifetime;
    let names = attributes.names(target.ident);
    let was = attributes.was();
    // Without a name here, whoever uses the struct gives one, and `was` adds to it.
    let (own_names, own_was) = match attributes.given_name() {
        Some(_) => (quote!(&[#(#names),*]), quote!(&[])),
        None => (quote!(&[]), quote!(&[#(#was),*])),
    };
    let names = quote!(&[&[#(#names),*]]);
    let has_older = !attributes.from.is_empty();
    let (declared, value) = match fields {
        None => (Vec::new(), quote!(Self)),
        Some(fields) => {
            let code = event_fields::of(fields, lifetime)?;
            let taken = code.taken;
            (code.declared, quote!(Self { #(#taken),* }))
        }
    };
    let implementation = target.implement(
        "Fields",
        &quote! {
            const NAMES: &'static [&'static str] = #own_names;
            const WAS: &'static [&'static str] = #own_was;
            const HAS_OLDER: bool = #has_older;

            fn fields() -> ::std::vec::Vec<::retell_sdk::__private::DeclaredField> {
                ::std::vec![#(#declared),*]
            }

            #[allow(unused_variables)]
            fn decode(row: ::retell_sdk::__private::Row<#lifetime>) -> ::retell_sdk::Result<Self> {
                ::core::result::Result::Ok(#value)
            }
        },
    );
    let mut arms = Arms::default();
    let decode = quote!(<Self as ::retell_sdk::Fields<#lifetime>>::decode(row));
    arms.add(decode, |arm| quote!(out.add_fields::<Self>(#arm, #names);));
    arms.add_older(&attributes.from, &names, lifetime);
    let event = target.implement_event(&arms);
    Ok(quote!(#implementation #event))
}

fn derive_enum(target: &Target<'_>, data: &DataEnum) -> Result<TokenStream> {
    if data.variants.is_empty() {
        return Err(Error::new_spanned(
            target.ident,
            "a projection takes at least one event",
        ));
    }
    let mut arms = Arms::default();
    let mut taken: HashMap<String, Ident> = HashMap::new();
    for variant in &data.variants {
        let attributes = EventAttributes::read(&variant.attrs)?;
        let is_around_struct = matches!(variant.fields, Fields::Unnamed(_));
        let known = if is_around_struct && attributes.given_name().is_none() {
            attributes.was()
        } else {
            attributes.names(&variant.ident)
        };
        check_distinct(&mut taken, variant, &known)?;
        add_variant(&mut arms, target, variant, &attributes)?;
    }
    // Which types a struct names, only the compiler knows.
    let taken = &arms.taken;
    let taken = with_static(quote!(#(#taken),*), &target.lifetime);
    let distinct = quote! {
        const _: () = ::core::assert!(
            ::retell_sdk::__private::are_distinct(&[#taken]),
            "two variants take one event type: declare an older form of one event with \
             `#[event(from = ...)]`",
        );
    };
    arms.shapes.push(distinct);
    Ok(target.implement_event(&arms))
}

/// The same with `'static` for the lifetime: a constant knows no other.
fn with_static(tokens: TokenStream, lifetime: &Lifetime) -> TokenStream {
    let mut after_quote = false;
    let tokens = tokens.into_iter().map(|token| {
        let is_lifetime = std::mem::take(&mut after_quote);
        match token {
            TokenTree::Group(group) => {
                let inner = with_static(group.stream(), lifetime);
                let mut changed = Group::new(group.delimiter(), inner);
                changed.set_span(group.span());
                changed.into()
            }
            TokenTree::Ident(ident) if is_lifetime && ident == lifetime.ident => {
                Ident::new("static", ident.span()).into()
            }
            TokenTree::Punct(punct) => {
                after_quote = punct.as_char() == '\'';
                punct.into()
            }
            other => other,
        }
    });
    tokens.collect()
}

fn check_distinct(
    taken: &mut HashMap<String, Ident>,
    variant: &Variant,
    names: &[String],
) -> Result<()> {
    for name in names {
        let Some(other) = taken.insert(name.clone(), variant.ident.clone()) else {
            continue;
        };
        let message = if name == "*" {
            format!("`{other}` takes every other event type already")
        } else {
            format!(
                "`{other}` takes the event type `{name}` already; declare an older form of one \
                 event with `#[event(from = ...)]`"
            )
        };
        return Err(Error::new_spanned(&variant.ident, message));
    }
    Ok(())
}

fn add_variant(
    arms: &mut Arms,
    target: &Target<'_>,
    variant: &Variant,
    attributes: &EventAttributes,
) -> Result<()> {
    let ident = &variant.ident;
    let lifetime = &target.lifetime;
    let names = attributes.names(ident);
    let mut lists = vec![quote!(&[#(#names),*])];
    match &variant.fields {
        Fields::Unit => {
            let decode = quote!(::core::result::Result::Ok(Self::#ident));
            arms.add(decode, |arm| quote!(out.add(#arm, &[#(#lists),*], &[]);));
        }
        Fields::Named(fields) => {
            let code = event_fields::of(fields, lifetime)?;
            let (declared, taken) = (code.declared, code.taken);
            let decode = quote!(::core::result::Result::Ok(Self::#ident { #(#taken),* }));
            arms.add(
                decode,
                |arm| quote!(out.add(#arm, &[#(#lists),*], &[#(#declared),*]);),
            );
        }
        Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
            let inner = &fields.unnamed[0].ty;
            let fields_of = quote!(<#inner as ::retell_sdk::Fields<#lifetime>>);
            lists = names_around(ident, attributes, &fields_of);
            arms.forbid_older(inner, lifetime);
            let decode = quote!(#fields_of::decode(row).map(Self::#ident));
            arms.add(
                decode,
                |arm| quote!(out.add(#arm, &[#(#lists),*], &#fields_of::fields());),
            );
        }
        Fields::Unnamed(fields) => {
            let message = "name the fields, or hold one struct that derives `Event`";
            return Err(Error::new_spanned(fields, message));
        }
    }
    arms.add_older(&attributes.from, &quote!(&[#(#lists),*]), lifetime);
    let older = attributes
        .from
        .iter()
        .map(|old| quote!(<#old as ::retell_sdk::Fields<#lifetime>>));
    let older = older.flat_map(|of| [quote!(#of::NAMES), quote!(#of::WAS)]);
    let lists = lists.into_iter().chain(older);
    arms.taken.push(quote!(&[#(#lists),*]));
    Ok(())
}

/// Lists of the event types of a variant around a struct: its name is the one given here, or the
/// struct's own, or that of the variant, and what either of them was is added.
fn names_around(
    ident: &Ident,
    attributes: &EventAttributes,
    fields_of: &TokenStream,
) -> Vec<TokenStream> {
    if attributes.any.is_some() {
        return vec![quote!(&["*"])];
    }
    let name = match &attributes.name {
        Some(name) => quote!(&[#name]),
        None => {
            let name = attributes::name(ident);
            quote!(if #fields_of::NAMES.is_empty() { &[#name] } else { #fields_of::NAMES })
        }
    };
    let was = attributes.was();
    vec![name, quote!(&[#(#was),*]), quote!(#fields_of::WAS)]
}
