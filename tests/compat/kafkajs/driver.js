// The driver of kafkajs. The contract is described in tests/compat/matrix/driver.rs.
//
//     node driver.js BOOTSTRAP
'use strict'

const readline = require('readline')
const {
  CompressionCodecs,
  CompressionTypes,
  Kafka,
  Partitioners,
  logLevel,
} = require('kafkajs')
const Lz4 = require('lz4-napi')
const Snappy = require('kafkajs-snappy')
const { ZstdCodec } = require('zstd-codec')

const TEXT_BYTES = 256
const BOOTSTRAP = process.argv[2]

const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}
const ACKS = { 0: 0, 1: 1, all: -1 }

// kafkajs brings gzip only, and takes the others as plug-ins.
CompressionCodecs[CompressionTypes.Snappy] = Snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: encoder => Lz4.compressFrame(encoder.buffer),
  decompress: buffer => Lz4.decompressFrame(buffer),
})
// Its simple form cannot read frames that do not tell their length.
const zstd = new Promise(resolve => ZstdCodec.run(codec => resolve(new codec.Streaming())))
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from((await zstd).compress(encoder.buffer)),
  decompress: async buffer => Buffer.from((await zstd).decompress(buffer)),
})

const kafka = new Kafka({
  clientId: 'compat',
  brokers: [BOOTSTRAP],
  logLevel: logLevel.ERROR,
  logCreator: () => ({ log }) => console.error('kafkajs:', log.message, log.error || ''),
})

const CRC_TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1
  return crc
})

function crc32(bytes) {
  let crc = -1
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8)
  return ((crc ^ -1) >>> 0).toString(16).padStart(8, '0')
}

/** A key or value as answers have it. */
function text(bytes) {
  if (bytes === null || bytes === undefined) return null
  if (bytes.length <= TEXT_BYTES) return bytes.toString()
  return `crc32:${crc32(bytes)}:${bytes.length}`
}

/** Headers as kafkajs has them: an object of values, several of one name as an array. */
function headersToSend(pairs) {
  const headers = {}
  for (const [name, value] of pairs || []) {
    if (name in headers) headers[name] = [].concat(headers[name], value)
    else headers[name] = value
  }
  return headers
}

function headersRead(headers) {
  return Object.entries(headers || {}).flatMap(([name, values]) =>
    [].concat(values).map(value => [name, text(value)])
  )
}

/** A producer, and how to find out which partition it chose for a message. */
async function newProducer(settings) {
  const chosen = new Map()
  const createPartitioner = () => {
    const choose = Partitioners.DefaultPartitioner()
    return arguments_ => {
      const partition = choose(arguments_)
      chosen.set(arguments_.message, partition)
      return partition
    }
  }
  const producer = kafka.producer({
    createPartitioner,
    allowAutoTopicCreation: false,
    idempotent: settings.idempotent || false,
    // Its retries back off to half a minute by default.
    retry: { retries: 10, maxRetryTime: 2000 },
  })
  await producer.connect()
  return { producer, chosen }
}

/** Where each message is: `[partition, offset]`, in the order of the messages. */
function positions(answers, chosen, sent) {
  const next = new Map()
  for (const { topicName, partition, baseOffset, offset } of answers || []) {
    next.set(`${topicName} ${partition}`, Number(baseOffset === undefined ? offset : baseOffset))
  }
  return sent.map(([topic, message]) => {
    const partition = chosen.get(message)
    const key = `${topic} ${partition}`
    if (!next.has(key)) return [partition, -1]
    const offset = next.get(key)
    next.set(key, offset + 1)
    return [partition, offset]
  })
}

async function send({ producer, chosen }, sent, acks, compression) {
  const topicMessages = new Map()
  for (const [topic, message] of sent) {
    if (!topicMessages.has(topic)) topicMessages.set(topic, { topic, messages: [] })
    topicMessages.get(topic).messages.push(message)
  }
  const answers = await producer.sendBatch({
    acks,
    compression,
    topicMessages: [...topicMessages.values()],
  })
  return positions(answers, chosen, sent)
}

async function produce(command) {
  const producer = await newProducer(command)
  try {
    const sent = command.records.map(record => {
      const message = {
        key: record.key,
        value: record.value === null ? null : record.value.repeat(record.repeat || 1),
        headers: headersToSend(record.headers),
      }
      if (typeof record.partition === 'number') message.partition = record.partition
      if (typeof record.timestamp === 'number') message.timestamp = String(record.timestamp)
      return [record.topic, message]
    })
    try {
      const compression = CODECS[command.codec || 'none']
      return { sent: await send(producer, sent, ACKS[command.acks || 'all'], compression) }
    } catch (error) {
      console.error(error)
      return { sent: sent.map(() => `${error.type || error.name}: ${error.message}`) }
    }
  } finally {
    await producer.producer.disconnect()
  }
}

const loads = new Map()

async function load({ handle, topic, prefix }) {
  const state = { stopped: false, acked: [] }
  loads.set(handle, state)
  const producer = await newProducer({})
  state.work = (async () => {
    for (let number = 0; !state.stopped; number += 5) {
      const numbers = [0, 1, 2, 3, 4].map(at => number + at)
      producer.chosen.clear()
      // Each by itself: of several it drops those that, when it tries again, belong to a broker
      // that has answered already (src/producer/sendMessages.js), and says that all were sent.
      const one = async at => {
        try {
          const sent = [[topic, { value: `${prefix}${at}` }]]
          const [position] = await send(producer, sent, -1, CompressionTypes.None)
          state.acked.push([at, ...position])
        } catch (error) {
          console.error('kafkajs:', error.message)
        }
      }
      await Promise.all(numbers.map(one))
      await new Promise(resolve => setTimeout(resolve, 5))
    }
    await producer.producer.disconnect()
  })()
}

async function stop({ handle }) {
  const state = loads.get(handle)
  state.stopped = true
  await state.work
  return { acked: state.acked }
}

const consumers = new Map()

async function open(command) {
  const settings = {
    groupId: command.group || command.handle,
    heartbeatInterval: 500,
    sessionTimeout: 30000,
    maxWaitTimeInMs: 500,
    allowAutoTopicCreation: false,
    retry: { retries: 10 },
  }
  if (command.max_bytes) settings.maxBytesPerPartition = command.max_bytes
  const client = kafka.consumer(settings)
  const consumer = { client, queue: [], wake: () => {}, closed: false }
  await client.connect()
  const topics = command.topics || [...new Set(command.assign.map(([topic]) => topic))]
  await client.subscribe({ topics, fromBeginning: command.reset !== 'latest' })
  const joined = new Promise(resolve => {
    const forget = client.on(client.events.GROUP_JOIN, () => {
      forget()
      resolve()
    })
  })
  await client.run({
    autoCommit: command.auto_commit || false,
    autoCommitInterval: 500,
    partitionsConsumedConcurrently: 20,
    // A message counts as read, for automatic commits, when it has been given away.
    eachMessage: ({ topic, partition, message }) =>
      new Promise((resolve, reject) => {
        if (consumer.closed) throw new Error('closed')
        const record = {
          topic,
          partition,
          offset: Number(message.offset),
          timestamp: Number(message.timestamp),
          key: text(message.key),
          value: text(message.value),
          headers: headersRead(message.headers),
        }
        consumer.queue.push({ record, resolve, reject })
        consumer.wake()
      }),
  })
  // Without a group of the scenario's own, the consumer is to have its partitions at once.
  if (command.assign) await joined
  consumers.set(command.handle, consumer)
}

async function poll({ handle, count, ms }) {
  const consumer = consumers.get(handle)
  const deadline = Date.now() + ms
  const records = []
  for (;;) {
    for (const { record, resolve } of consumer.queue.splice(0, count - records.length)) {
      records.push(record)
      resolve()
    }
    const left = deadline - Date.now()
    if (records.length === count || left <= 0) return { records }
    await new Promise(resolve => {
      const timer = setTimeout(resolve, left)
      consumer.wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}

async function commit({ handle, offsets }) {
  await consumers.get(handle).client.commitOffsets(
    offsets.map(([topic, partition, offset, metadata]) => ({
      topic,
      partition,
      offset: String(offset),
      metadata,
    }))
  )
}

function move(handle, topic, partition, offset) {
  const consumer = consumers.get(handle)
  consumer.client.seek({ topic, partition, offset })
  // What was fetched before goes unread.
  consumer.queue.splice(0).forEach(({ resolve }) => resolve())
}

/** Asks the broker for offsets; kafkajs seeks to numbers only. */
async function offsets(ask, partition) {
  const admin = kafka.admin()
  await admin.connect()
  const all = await ask(admin)
  await admin.disconnect()
  return all.find(at => at.partition === partition)
}

async function seek({ handle, topic, partition, to }) {
  if (typeof to === 'number') return move(handle, topic, partition, String(to))
  const { low, high } = await offsets(admin => admin.fetchTopicOffsets(topic), partition)
  move(handle, topic, partition, to === 'end' ? high : low)
}

async function seekTime({ handle, topic, partition, timestamp }) {
  const ask = admin => admin.fetchTopicOffsetsByTimestamp(topic, timestamp)
  move(handle, topic, partition, (await offsets(ask, partition)).offset)
}

async function close({ handle }) {
  const consumer = consumers.get(handle)
  consumers.delete(handle)
  consumer.closed = true
  consumer.queue.splice(0).forEach(({ reject }) => reject(new Error('closed')))
  await consumer.client.disconnect()
}

const OPS = {
  version: async () => ({ version: require('kafkajs/package.json').version }),
  produce,
  load,
  stop,
  open,
  poll,
  commit,
  seek,
  seek_time: seekTime,
  pause: async ({ handle, topic, partition }) =>
    consumers.get(handle).client.pause([{ topic, partitions: [partition] }]),
  resume: async ({ handle, topic, partition }) =>
    consumers.get(handle).client.resume([{ topic, partitions: [partition] }]),
  close,
}

async function run(command) {
  let answer
  try {
    answer = (await OPS[command.op](command)) || {}
  } catch (error) {
    console.error(error)
    answer = { error: `${error.type || error.name}: ${error.message}` }
  }
  process.stdout.write(JSON.stringify({ ...answer, id: command.id }) + '\n')
}

const lines = readline.createInterface({ input: process.stdin })
lines.on('line', line => run(JSON.parse(line)))
lines.on('close', () => process.exit(0))
