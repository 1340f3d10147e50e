//! What a bare client does with the broker: the floor of `tests/bench/queue`. Neither a journal nor a source, and nothing is
//! encoded. Prints the seconds that it took.
//!
//! ```text
//! queue_floor each    AMQP-URL QUEUES COUNT BYTES        awaits the confirmation of each message before the next
//! queue_floor publish AMQP-URL QUEUES COUNT BYTES        keeps 4,096 of them in flight on a channel for each queue
//! queue_floor consume AMQP-URL QUEUES COUNT REDIS-URL    500 messages, one MSET, one ack; one queue after the other
//! ```
//!
//! QUEUES are names with commas between them; COUNT messages are shared out evenly.

use std::{collections::VecDeque, env, time::Instant};

use futures_util::{StreamExt as _, future::try_join_all};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
    PublisherConfirm,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
        QueuePurgeOptions,
    },
    types::FieldTable,
};
use redis::aio::MultiplexedConnection;

const IN_FLIGHT: usize = 4096;

const BATCH: usize = 500;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Outcome {
    // Cargo adds a flag of its own.
    let words: Vec<_> = env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let [what, url, queues, count, last] = <[String; 5]>::try_from(words).map_err(
        |_| "usage: queue_floor each|publish|consume AMQP-URL QUEUES COUNT BYTES|REDIS-URL",
    )?;
    let queues: Vec<_> = queues.split(',').collect();
    let count = count.parse::<usize>()? / queues.len();
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let mut channels = Vec::new();
    for queue in &queues {
        let channel = connection.create_channel().await?;
        if what != "consume" {
            set_up(&channel, queue).await?;
        }
        channels.push(channel);
    }
    let begun = Instant::now();
    let each = channels.iter().zip(&queues);
    match what.as_str() {
        "each" => {
            let bytes = last.parse()?;
            for (channel, queue) in each {
                publish(channel, queue, count, bytes, 1).await?;
            }
        }
        "publish" => {
            let bytes = last.parse()?;
            try_join_all(
                each.map(|(channel, queue)| publish(channel, queue, count, bytes, IN_FLIGHT)),
            )
            .await?;
        }
        "consume" => {
            let mut target = redis::Client::open(last)?
                .get_multiplexed_async_connection()
                .await?;
            for (channel, queue) in each {
                consume(channel, queue, count, &mut target).await?;
            }
        }
        other => return Err(format!("{other} is nothing that is measured").into()),
    }
    let took = begun.elapsed().as_secs_f64();
    println!("{took:.3}");
    Ok(())
}

/// Makes the queue as the shop has it, empty.
async fn set_up(channel: &Channel, queue: &str) -> Outcome {
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let none = FieldTable::default;
    channel
        .exchange_declare(queue.into(), ExchangeKind::Direct, durable, none())
        .await?;
    channel
        .queue_declare(queue.into(), QueueDeclareOptions::durable(), none())
        .await?;
    let bind = QueueBindOptions::default();
    channel
        .queue_bind(queue.into(), queue.into(), "".into(), bind, none())
        .await?;
    channel
        .queue_purge(queue.into(), QueuePurgeOptions::default())
        .await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    Ok(())
}

async fn publish(
    channel: &Channel,
    queue: &str,
    count: usize,
    bytes: usize,
    in_flight: usize,
) -> Outcome {
    let body = vec![b'x'; bytes];
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_headers(FieldTable::default());
    let mut sent: VecDeque<PublisherConfirm> = VecDeque::new();
    for _ in 0..count {
        let confirm = channel
            .basic_publish(queue.into(), "".into(), options, &body, properties.clone())
            .await?;
        sent.push_back(confirm);
        if sent.len() >= in_flight {
            confirmed(sent.pop_front()).await?;
        }
    }
    while !sent.is_empty() {
        confirmed(sent.pop_front()).await?;
    }
    Ok(())
}

async fn confirmed(confirm: Option<PublisherConfirm>) -> Outcome {
    match confirm {
        Some(confirm) => match confirm.await? {
            Confirmation::Ack(None) => Ok(()),
            other => Err(format!("not confirmed: {other:?}").into()),
        },
        None => Ok(()),
    }
}

async fn consume(
    channel: &Channel,
    queue: &str,
    count: usize,
    target: &mut MultiplexedConnection,
) -> Outcome {
    channel.basic_qos(1_000, BasicQosOptions::default()).await?;
    let mut consumer = channel
        .basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let mut done = 0;
    while done < count {
        let mut command = redis::cmd("MSET");
        let mut last = None;
        for row in 0..BATCH.min(count - done) {
            let delivery = consumer.next().await.ok_or("the consumer ended")??;
            command
                .arg(format!("kv:{queue}:{}", done + row))
                .arg(&delivery.data);
            last = Some(delivery);
        }
        command.query_async::<()>(target).await?;
        if let Some(last) = last {
            last.ack(BasicAckOptions { multiple: true }).await?;
        }
        done += BATCH.min(count - done);
    }
    Ok(())
}
