//! Roles that are let in by others.

use sqlx::{AssertSqlSafe, PgPool};

/// Makes a role that can log in, unless there is one. Returns whether it was made.
pub(crate) async fn make_role(pool: &PgPool, role: &str) -> Result<bool, sqlx::Error> {
    let is_there: bool = sqlx::query_scalar("SELECT to_regrole(quote_ident($1)) IS NOT NULL")
        .bind(role)
        .fetch_one(pool)
        .await?;
    if !is_there {
        let create = format!("CREATE ROLE {} LOGIN", quote(role));
        sqlx::raw_sql(AssertSqlSafe(create)).execute(pool).await?;
    }
    Ok(!is_there)
}

/// Runs all the statements or none, with the role where they say `{role}`.
pub(crate) async fn grant(
    pool: &PgPool,
    role: &str,
    statements: &[&str],
) -> Result<(), sqlx::Error> {
    let role = quote(role);
    let mut transaction = pool.begin().await?;
    for statement in statements {
        let sql = statement.replace("{role}", &role);
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await
}

/// A name as SQL writes it.
fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
