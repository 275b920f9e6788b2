// The official Node SDK, unchanged. Prints one JSON object of what it saw.
// BASE_URL, API_KEY and MODEL come from the environment.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.env.BASE_URL}/v1`, apiKey: process.env.API_KEY, maxRetries: 0 });
const model = process.env.MODEL;
const ask = (content) => [{ role: "user", content }];
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "Weather of a city",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const PIXEL =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

async function streamed() {
  const stream = await client.chat.completions.create({
    model,
    messages: ask("Tell me of streams."),
    stream: true,
    stream_options: { include_usage: true, include_status: true },
  });
  let text = "";
  let usage = null;
  let finish = null;
  let chunks = 0;
  for await (const chunk of stream) {
    chunks += 1;
    text += chunk.choices[0]?.delta?.content ?? "";
    finish = chunk.choices[0]?.finish_reason ?? finish;
    usage = chunk.usage ?? usage;
  }
  return { text, usage, finish, chunks };
}

async function whole() {
  const answer = await client.chat.completions.create({ model, messages: ask("Tell me of wholes.") });
  return { text: answer.choices[0].message.content, usage: answer.usage, object: answer.object };
}

async function tools() {
  const helper = client.chat.completions.stream({
    model,
    messages: ask("What is the weather in Paris? Use the tool."),
    tools: [weather],
    tool_choice: { type: "function", function: { name: "get_weather" } },
  });
  const final = await helper.finalChatCompletion();
  const call = final.choices[0].message.tool_calls[0];
  return { name: call.function.name, args: JSON.parse(call.function.arguments), finish: final.choices[0].finish_reason };
}

async function schema() {
  const answer = await client.chat.completions.create({
    model,
    messages: ask("Give me a person."),
    response_format: {
      type: "json_schema",
      json_schema: {
        name: "person",
        strict: true,
        schema: {
          type: "object",
          properties: { name: { type: "string" }, age: { type: "integer" } },
          required: ["name", "age"],
          additionalProperties: false,
        },
      },
    },
  });
  return JSON.parse(answer.choices[0].message.content);
}

async function image() {
  const answer = await client.chat.completions.create({
    model,
    messages: ask([
      { type: "text", text: "What is in the picture?" },
      { type: "image_url", image_url: { url: PIXEL } },
    ]),
  });
  return { text: answer.choices[0].message.content };
}

async function several() {
  const answer = await client.chat.completions.create({ model, messages: ask("Twice, please."), n: 2 });
  return { indexes: answer.choices.map((c) => c.index), texts: answer.choices.map((c) => c.message.content) };
}

async function failures() {
  const seen = {};
  try {
    await client.chat.completions.create({ model: "no-such-model", messages: ask("Hello") });
  } catch (error) {
    seen.unknownModel = { status: error.status, code: error.code, type: error.type };
  }
  try {
    const stranger = new OpenAI({ baseURL: `${process.env.BASE_URL}/v1`, apiKey: "wrong", maxRetries: 0 });
    await stranger.models.list();
  } catch (error) {
    seen.badKey = { status: error.status, code: error.code };
  }
  return seen;
}

const models = (await client.models.list()).data.map((m) => m.id);
const embedding = await client.embeddings.create({ model: process.env.EMBEDDING_MODEL ?? model, input: ["one", "two"] });
console.log(
  JSON.stringify({
    streamed: await streamed(),
    whole: await whole(),
    tools: await tools(),
    schema: await schema(),
    image: await image(),
    several: await several(),
    failures: await failures(),
    models,
    vectors: embedding.data.map((d) => d.embedding.length),
  }),
);
