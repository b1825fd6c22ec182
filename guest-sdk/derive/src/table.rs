//! `#[derive(Table)]`: the table for the manifest, and the code that writes and reads its rows.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Error, Fields, Ident, LitStr, Result, Token, Type, Visibility,
};

use crate::attributes;

pub(crate) fn derive(input: TokenStream) -> Result<TokenStream> {
    let input: DeriveInput = syn::parse2(input)?;
    let table = TableInput::read(&input)?;
    Ok(table.code())
}

/// How many columns PostgreSQL allows a key or an index.
const KEY_COLUMNS_MAX: usize = 32;

/// The constant for the key itself.
const BY_KEY: &str = "BY_KEY";

struct TableInput {
    ident: Ident,
    visibility: Visibility,
    name: String,
    name_span: Span,
    columns: Vec<Column>,
    key: Vec<usize>,
    indexes: Vec<Index>,
}

struct Column {
    ident: Ident,
    name: String,
    name_span: Span,
    ty: Type,
}

struct Index {
    name: String,
    span: Span,
    columns: Vec<usize>,
    unique: bool,
}

/// What `#[table(...)]` says.
#[derive(Default)]
struct TableAttributes {
    name: Option<LitStr>,
    key: Option<Vec<Ident>>,
    indexes: Vec<(IndexAttribute, bool)>,
}

/// `(a, b, name = "c")`.
struct IndexAttribute {
    columns: Vec<Ident>,
    name: Option<LitStr>,
}

enum IndexItem {
    Column(Ident),
    Name(LitStr),
}

impl Parse for IndexItem {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let ident: Ident = input.parse()?;
        if !input.peek(Token![=]) {
            return Ok(Self::Column(ident));
        }
        if ident != "name" {
            return Err(Error::new(
                ident.span(),
                "unknown attribute: an index has a `name`",
            ));
        }
        input.parse::<Token![=]>()?;
        Ok(Self::Name(input.parse()?))
    }
}

impl TableAttributes {
    fn read(attributes: &[Attribute]) -> Result<Self> {
        let mut found = Self::default();
        attributes::each_item(attributes, "table", |meta| {
            if meta.path.is_ident("name") {
                attributes::once(&mut found.name, attributes::value(&meta)?, &meta)
            } else if meta.path.is_ident("key") {
                let columns: Vec<Ident> = attributes::list(&meta)?;
                if columns.is_empty() {
                    return Err(meta.error("a key needs columns: `key(a, b)`"));
                }
                attributes::once(&mut found.key, columns, &meta)
            } else if meta.path.is_ident("index") || meta.path.is_ident("unique") {
                let mut index = IndexAttribute {
                    columns: Vec::new(),
                    name: None,
                };
                for item in attributes::list(&meta)? {
                    match item {
                        IndexItem::Column(column) => index.columns.push(column),
                        IndexItem::Name(name) => index.name = Some(name),
                    }
                }
                if index.columns.is_empty() {
                    return Err(meta.error("an index needs columns: `index(a, b)`"));
                }
                found.indexes.push((index, meta.path.is_ident("unique")));
                Ok(())
            } else {
                Err(attributes::unknown(
                    &meta,
                    "`name`, `key`, `index` and `unique`",
                ))
            }
        })?;
        Ok(found)
    }
}

impl TableInput {
    fn read(input: &DeriveInput) -> Result<Self> {
        let Data::Struct(data) = &input.data else {
            return Err(Error::new_spanned(
                &input.ident,
                "a table is a struct: one row of it",
            ));
        };
        let Fields::Named(fields) = &data.fields else {
            return Err(Error::new_spanned(
                &input.ident,
                "a table needs columns: named fields",
            ));
        };
        if let Some(parameter) = input.generics.params.first() {
            return Err(Error::new_spanned(
                parameter,
                "a row owns its values: a table has neither lifetimes nor type parameters",
            ));
        }
        let attributes = TableAttributes::read(&input.attrs)?;
        let mut table = Self {
            ident: input.ident.clone(),
            visibility: input.vis.clone(),
            name: snake_case(&attributes::name(&input.ident)),
            name_span: input.ident.span(),
            columns: Vec::new(),
            key: Vec::new(),
            indexes: Vec::new(),
        };
        if let Some(name) = &attributes.name {
            (table.name, table.name_span) = (name.value(), name.span());
        }
        for field in &fields.named {
            table.add_column(field)?;
        }
        table.check_columns()?;
        if let Some(key) = &attributes.key {
            table.set_key(key)?;
        }
        if table.key.is_empty() {
            let message = "a table needs a key: mark the field (or fields) with `#[key]`";
            return Err(Error::new_spanned(&input.ident, message));
        }
        for &column in &table.key {
            check_key_type(&table.columns[column].ty)?;
        }
        for (index, unique) in &attributes.indexes {
            let span = index.columns[0].span();
            let columns = table.find_all(&index.columns)?;
            table.add_index(columns, index.name.as_ref(), span, *unique)?;
        }
        table.check_key_columns()?;
        table.check_constants()?;
        Ok(table)
    }

    fn add_column(&mut self, field: &syn::Field) -> Result<()> {
        let ident = field.ident.clone().expect("the field is named");
        let mut renamed: Option<LitStr> = None;
        attributes::each_item(&field.attrs, "column", |meta| {
            if !meta.path.is_ident("name") {
                return Err(attributes::unknown(&meta, "`name`"));
            }
            attributes::once(&mut renamed, attributes::value(&meta)?, &meta)
        })?;
        let number = self.columns.len();
        self.columns.push(Column {
            name: renamed
                .as_ref()
                .map_or_else(|| attributes::name(&ident), LitStr::value),
            name_span: renamed.as_ref().map_or_else(|| ident.span(), LitStr::span),
            ident,
            ty: field.ty.clone(),
        });
        if attributes::marker(&field.attrs, "key")?.is_some() {
            self.key.push(number);
        }
        for (marker, unique) in [("index", false), ("unique", true)] {
            if let Some(span) = attributes::marker(&field.attrs, marker)? {
                self.add_index(vec![number], None, span, unique)?;
            }
        }
        Ok(())
    }

    fn check_columns(&self) -> Result<()> {
        if self.columns.len() > 256 {
            return Err(Error::new_spanned(
                &self.ident,
                "a table has at most 256 columns",
            ));
        }
        for (number, column) in self.columns.iter().enumerate() {
            if self.columns[..number]
                .iter()
                .any(|other| other.name == column.name)
            {
                let message = format!("there is another column named `{}`", column.name);
                return Err(Error::new(column.name_span, message));
            }
        }
        Ok(())
    }

    fn set_key(&mut self, columns: &[Ident]) -> Result<()> {
        if !self.key.is_empty() {
            let message = "the key is marked with `#[key]` already; give it in one place";
            return Err(Error::new(columns[0].span(), message));
        }
        self.key = self.find_all(columns)?;
        Ok(())
    }

    fn find_all(&self, fields: &[Ident]) -> Result<Vec<usize>> {
        let mut found = Vec::new();
        for field in fields {
            let number = self
                .columns
                .iter()
                .position(|column| column.ident == *field);
            let number = number
                .ok_or_else(|| Error::new(field.span(), format!("there is no field `{field}`")))?;
            if found.contains(&number) {
                return Err(Error::new(
                    field.span(),
                    format!("`{field}` stands here twice"),
                ));
            }
            found.push(number);
        }
        Ok(found)
    }

    fn add_index(
        &mut self,
        columns: Vec<usize>,
        name: Option<&LitStr>,
        span: Span,
        unique: bool,
    ) -> Result<()> {
        let names: Vec<_> = columns
            .iter()
            .map(|&i| self.columns[i].name.as_str())
            .collect();
        let name = name.map_or_else(|| names.join("_"), LitStr::value);
        if self.indexes.iter().any(|index| index.name == name) {
            let message = format!(
                "there is another index named `{name}`; give one a name: `index(..., name = \"...\")`"
            );
            return Err(Error::new(span, message));
        }
        if self.indexes.len() == 16 {
            return Err(Error::new(span, "a table has at most 16 indexes"));
        }
        for &column in &columns {
            check_ordered(&self.columns[column].ty)?;
        }
        self.indexes.push(Index {
            name,
            span,
            columns,
            unique,
        });
        Ok(())
    }

    fn check_key_columns(&self) -> Result<()> {
        if self.key.len() > KEY_COLUMNS_MAX {
            let message = format!("a key has at most {KEY_COLUMNS_MAX} columns");
            return Err(Error::new_spanned(&self.ident, message));
        }
        for index in &self.indexes {
            let is_missing = |column: &&usize| !index.unique && !index.columns.contains(column);
            let columns = index.columns.len() + self.key.iter().filter(is_missing).count();
            if columns > KEY_COLUMNS_MAX {
                let message = format!(
                    "an index has at most {KEY_COLUMNS_MAX} columns, those of the key behind its own \
                     included, and this one has {columns}"
                );
                return Err(Error::new(index.span, message));
            }
        }
        Ok(())
    }

    /// Each index is scanned by a constant, which needs a name of its own.
    fn check_constants(&self) -> Result<()> {
        let mut taken = vec![BY_KEY.to_owned()];
        for index in &self.indexes {
            let constant = self.constant_name(index);
            if taken.contains(&constant) {
                let message = format!(
                    "`{constant}` is another index of this table already; give this one a name: \
                     `index(..., name = \"...\")`"
                );
                return Err(Error::new(index.span, message));
            }
            taken.push(constant);
        }
        Ok(())
    }

    fn code(&self) -> TokenStream {
        let implementation = self.implementation();
        let constants = self.constants();
        let checks = self.checks();
        quote!(#implementation #constants #checks)
    }

    fn implementation(&self) -> TokenStream {
        let Self { ident, name, .. } = self;
        let unique = self.indexes.iter().any(|index| index.unique);
        let key_types: Vec<_> = self.key.iter().map(|&i| &self.columns[i].ty).collect();
        let key_names: Vec<_> = self.key.iter().map(|&i| &self.columns[i].name).collect();
        let key_fields = self.key.iter().map(|&i| &self.columns[i].ident);
        let mut pushes = TokenStream::new();
        let mut compares = TokenStream::new();
        for (i, ((ty, name), field)) in key_types.iter().zip(key_names).zip(key_fields).enumerate()
        {
            // The key of one column is its value, that of several a tuple.
            let number = syn::Index::from(i);
            let value = if key_types.len() == 1 {
                quote!(key)
            } else {
                quote!(key.#number)
            };
            let column = quote_spanned!(ty.span()=> <#ty as ::retell_sdk::KeyColumn>);
            pushes.extend(quote_spanned!(ty.span()=> #column::push(#value, #name, out)?;));
            compares.extend(quote_spanned! {ty.span()=> && #column::is(&self.#field, #value)});
        }
        let key_types = key_types
            .iter()
            .map(|ty| quote_spanned!(ty.span()=> <#ty as ::retell_sdk::KeyColumn>::Key<'k>));
        let key_types: Vec<_> = key_types.collect();
        let key_type = match &key_types[..] {
            [key_type] => quote!(#key_type),
            key_types => quote!((#(#key_types,)*)),
        };
        let own_key = self.push_columns(&self.key);
        let definition = self.definition();
        let index_arms = (0u16..).zip(&self.indexes).map(|(number, index)| {
            let push = self.push_columns(&index.columns);
            quote!(#number => { #push })
        });
        let check = self.check();
        let (idents, types) = self.idents_and_types();
        let count = self.columns.len();
        quote! {
            #[automatically_derived]
            impl ::retell_sdk::Table for #ident {
                type Key<'k> = #key_type;

                const NAME: &'static str = #name;
                const UNIQUE: bool = #unique;

                fn definition() -> ::retell_sdk::__private::Table {
                    #definition
                }

                fn has_key(&self, key: Self::Key<'_>) -> bool {
                    true #compares
                }

                fn push_key(
                    key: Self::Key<'_>,
                    out: &mut ::std::vec::Vec<u8>,
                ) -> ::core::result::Result<(), ::retell_sdk::__private::ValueError> {
                    #pushes
                    ::core::result::Result::Ok(())
                }

                fn push_own_key(&self, out: &mut ::std::vec::Vec<u8>) {
                    #own_key
                }

                #[allow(unused_variables)]
                fn push_index(&self, index: u16, out: &mut ::std::vec::Vec<u8>) {
                    match index {
                        #(#index_arms)*
                        _ => ::core::unreachable!("the table has no such index"),
                    }
                }

                fn normalize(&mut self) {
                    #(<#types as ::retell_sdk::Column>::normalize(&mut self.#idents);)*
                }

                fn check(&self) -> ::retell_sdk::Result<()> {
                    #check
                    ::core::result::Result::Ok(())
                }

                fn write(&self, out: &mut ::std::vec::Vec<u8>) {
                    let mut writer = ::retell_sdk::__private::RowWriter::new(out, #count);
                    #(<#types as ::retell_sdk::Column>::write(&self.#idents, &mut writer);)*
                }

                fn read(
                    bytes: &[u8],
                ) -> ::core::result::Result<Self, ::retell_sdk::__private::RowError> {
                    let mut reader = ::retell_sdk::__private::RowReader::new(bytes, #count)?;
                    let row = Self {
                        #(#idents: <#types as ::retell_sdk::Column>::read(&mut reader)?,)*
                    };
                    reader.finish()?;
                    ::core::result::Result::Ok(row)
                }
            }
        }
    }

    fn idents_and_types(&self) -> (Vec<&Ident>, Vec<&Type>) {
        self.columns
            .iter()
            .map(|column| (&column.ident, &column.ty))
            .unzip()
    }

    fn push_columns(&self, columns: &[usize]) -> TokenStream {
        let pushes = columns.iter().map(|&i| {
            let Column { ident, ty, .. } = &self.columns[i];
            quote_spanned! {ty.span()=>
                <#ty as ::retell_sdk::IndexColumn>::push_key(&self.#ident, out);
            }
        });
        quote!(#(#pushes)*)
    }

    fn definition(&self) -> TokenStream {
        let name = &self.name;
        let columns = self.columns.iter().map(|Column { name, ty, .. }| {
            quote_spanned! {ty.span()=>
                ::retell_sdk::__private::TableColumn {
                    name: ::std::string::String::from(#name),
                    kind: <#ty as ::retell_sdk::Column>::TYPE,
                    nullable: <#ty as ::retell_sdk::Column>::NULLABLE,
                }
            }
        });
        let numbers = |columns: &[usize]| -> Vec<u16> {
            columns
                .iter()
                .map(|&i| u16::try_from(i).expect("at most 256 columns"))
                .collect()
        };
        let key = numbers(&self.key);
        let indexes = self.indexes.iter().map(
            |Index {
                 name,
                 columns,
                 unique,
                 ..
             }| {
                let columns = numbers(columns);
                quote! {
                    ::retell_sdk::__private::TableIndex {
                        name: ::std::string::String::from(#name),
                        columns: ::std::vec![#(#columns),*],
                        unique: #unique,
                    }
                }
            },
        );
        quote! {
            ::retell_sdk::__private::Table {
                name: ::std::string::String::from(#name),
                columns: ::std::vec![#(#columns),*],
                key: ::std::vec![#(#key),*],
                indexes: ::std::vec![#(#indexes),*],
            }
        }
    }

    /// The rules of values for every column, then the limit of the key and of each index.
    fn check(&self) -> TokenStream {
        let table = &self.name;
        let values = self.columns.iter().map(
            |Column {
                 ident, name, ty, ..
             }| {
                quote_spanned! {ty.span()=>
                    <#ty as ::retell_sdk::Column>::check(&self.#ident, #name)
                        .map_err(|error| {
                            ::retell_sdk::Error::from(error)
                                .context(::core::concat!("table `", #table, "`"))
                        })?;
                }
            },
        );
        let key = (format!("table `{table}`: the key"), &self.key);
        let indexes = self.indexes.iter().map(|index| {
            (
                format!("table `{table}`: the entry in index `{}`", index.name),
                &index.columns,
            )
        });
        let lengths = std::iter::once(key).chain(indexes).map(|(what, columns)| {
            let most = columns.iter().map(|&i| {
                let Column { ident, ty, .. } = &self.columns[i];
                quote_spanned! {ty.span()=>
                    <#ty as ::retell_sdk::IndexColumn>::key_bytes_most(&self.#ident)
                }
            });
            let push = self.push_columns(columns);
            quote! {
                ::retell_sdk::__private::check_key_bytes(
                    ::core::format_args!(#what),
                    0 #(+ #most)*,
                    |out| { #push },
                )?;
            }
        });
        quote!(#(#values)* #(#lengths)*)
    }

    /// `BY_KEY`, and `BY_…` for each index.
    fn constants(&self) -> TokenStream {
        let Self {
            ident, visibility, ..
        } = self;
        let tuple = |columns: &[usize]| {
            let types = columns.iter().map(|&i| &self.columns[i].ty);
            quote!((#(#types,)*))
        };
        let key = tuple(&self.key);
        let indexes = (0u16..).zip(&self.indexes).filter_map(|(number, index)| {
            let columns = tuple(&index.columns);
            // A name that cannot stand in Rust is refused by the check of names.
            let mut constant: Ident = syn::parse_str(&self.constant_name(index)).ok()?;
            constant.set_span(index.span);
            let doc = format!("The index `{}`, to scan by.", index.name);
            Some(quote! {
                #[doc = #doc]
                #[allow(dead_code)]
                #visibility const #constant: ::retell_sdk::Index<Self, #columns> =
                    ::retell_sdk::Index::new(#number);
            })
        });
        quote! {
            impl #ident {
                /// The key, to scan by.
                #[allow(dead_code)]
                #visibility const BY_KEY: ::retell_sdk::Index<Self, #key> =
                    ::retell_sdk::Index::key();
                #(#indexes)*
            }
        }
    }

    /// `BY_A_AND_B`, or by the name that an index was given.
    fn constant_name(&self, index: &Index) -> String {
        let names: Vec<_> = index
            .columns
            .iter()
            .map(|&i| self.columns[i].name.as_str())
            .collect();
        let name = if index.name == names.join("_") {
            names.join("_and_")
        } else {
            index.name.clone()
        };
        format!("BY_{}", name.to_uppercase())
    }

    /// The rules of names.
    fn checks(&self) -> TokenStream {
        let columns = self
            .columns
            .iter()
            .map(|column| (&column.name, column.name_span));
        let of_columns = columns.clone();
        let of_columns = of_columns.map(|(name, span)| attributes::check_column_name(name, span));
        let indexes = self.indexes.iter().map(|index| (&index.name, index.span));
        std::iter::once((&self.name, self.name_span))
            .chain(columns)
            .chain(indexes)
            .map(|(name, span)| attributes::check_name(name, span))
            .chain(of_columns)
            .collect()
    }
}

/// Says in one line what the compiler would say in many. Types under other names are left to it.
fn check_key_type(ty: &Type) -> Result<()> {
    if is_called(ty, "Option") {
        let message = "a key needs a value: a column that may be null cannot be part of it";
        return Err(Error::new_spanned(ty, message));
    }
    check_ordered(ty)
}

fn check_ordered(ty: &Type) -> Result<()> {
    if is_called(ty, "Json") {
        let message = "JSON has no order that every database shares: it cannot be part of a key \
                       or an index; give what you look up by a column of its own";
        return Err(Error::new_spanned(ty, message));
    }
    Ok(())
}

fn is_called(ty: &Type, name: &str) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == name))
}

/// `ArticleLike` becomes `article_like`, and `HTTPRequest` becomes `http_request`.
fn snake_case(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (i, &letter) in letters.iter().enumerate() {
        let starts_word = letter.is_uppercase()
            && i > 0
            && (!letters[i - 1].is_uppercase()
                || letters.get(i + 1).is_some_and(|next| next.is_lowercase()));
        if starts_word && !out.ends_with('_') {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::snake_case;

    #[test]
    fn snake_case_of_struct_names() {
        for (name, expected) in [
            ("Article", "article"),
            ("ArticleLike", "article_like"),
            ("HTTPRequest", "http_request"),
            ("Top10", "top10"),
            ("A_B", "a_b"),
        ] {
            assert_eq!(snake_case(name), expected);
        }
    }
}
