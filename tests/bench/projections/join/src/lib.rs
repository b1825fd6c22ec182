//! Auctions with the name of their seller, read from another table, and their highest bid. A bid on
//! an auction that is not there yet is ignored; so is a name that becomes known later.

use retell_sdk::prelude::*;

#[derive(Event)]
enum Market<'a> {
    Person {
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
    pub seller: i64,
    /// None if the seller was not known when the auction began.
    pub seller_name: Option<String>,
    pub highest: i64,
    pub highest_bidder: Option<i64>,
}

#[projection(
    name = "bench_join",
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
