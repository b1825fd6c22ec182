//! Auctions as in `join`, with the name of their seller as it is now: a rename changes all auctions
//! of that person, found by an index. A bid on an auction that is not there yet is ignored.

use retell_sdk::prelude::*;

#[derive(Event)]
enum Market<'a> {
    Person {
        id: i64,
        name: &'a str,
    },
    PersonRenamed {
        id: i64,
        name: &'a str,
    },
    Auction {
        id: i64,
        item_name: &'a str,
        seller: i64,
    },
    Bid {
        auction: i64,
        bidder: i64,
        price: i64,
    },
}

#[derive(Table)]
pub struct Person {
    #[key]
    pub id: i64,
    pub name: String,
}

#[derive(Table)]
pub struct Auction {
    #[key]
    pub id: i64,
    pub item_name: String,
    #[index]
    pub seller: i64,
    /// None if the seller was not known when the auction began, and has not been renamed since.
    pub seller_name: Option<String>,
    pub highest: i64,
    pub highest_bidder: Option<i64>,
}

#[projection(
    name = "bench_fan_out",
    version = "1.0.0",
    tables(Person, Auction),
    keys(auction = Auction, seller = Person)
)]
fn project(event: Market<'_>, _meta: &Meta, db: &mut Db) -> Result<()> {
    match event {
        Market::Person { id, name } => db.put(Person {
            id,
            name: name.to_owned(),
        }),
        Market::PersonRenamed { id, name } => {
            db.update::<Person>(id, |person| name.clone_into(&mut person.name))?;
            db.update_all(Auction::BY_SELLER, id, |auction| {
                auction.seller_name = Some(name.to_owned());
            })?;
            Ok(())
        }
        Market::Auction {
            id,
            item_name,
            seller,
        } => {
            let seller_name = db.get::<Person>(seller)?.map(|person| person.name.clone());
            db.put(Auction {
                id,
                item_name: item_name.to_owned(),
                seller,
                seller_name,
                highest: 0,
                highest_bidder: None,
            })
        }
        Market::Bid {
            auction,
            bidder,
            price,
        } => {
            let outbid = db
                .get::<Auction>(auction)?
                .is_some_and(|auction| price > auction.highest);
            if outbid {
                db.update::<Auction>(auction, |auction| {
                    auction.highest = price;
                    auction.highest_bidder = Some(bidder);
                })?;
            }
            Ok(())
        }
    }
}
