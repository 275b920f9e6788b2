// The Vercel AI SDK, unchanged, through its OpenAI-compatible provider and its OpenAI provider's chat model.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const settings = { baseURL: `${process.env.BASE_URL}/v1`, apiKey: process.env.API_KEY };
const providers = {
  compatible: createOpenAICompatible({ name: "fastchat", includeUsage: true, supportsStructuredOutputs: true, ...settings }),
  openai: { chatModel: (id) => createOpenAI(settings).chat(id) },
};

async function streamed(model) {
  const seen = { text: "", errors: [] };
  const result = streamText({ model, prompt: "Tell me of streams.", onError: ({ error }) => seen.errors.push(String(error)) });
  for await (const part of result.textStream) seen.text += part;
  seen.finish = await result.finishReason;
  seen.usage = await result.usage;
  return seen;
}

async function tools(model) {
  const called = [];
  const result = streamText({
    model,
    prompt: "What is the weather in Paris? Use the tool.",
    stopWhen: stepCountIs(1),
    toolChoice: { type: "tool", toolName: "get_weather" },
    tools: {
      get_weather: tool({
        description: "Weather of a city",
        inputSchema: z.object({ city: z.string() }),
        execute: async (input) => {
          called.push(input);
          return { degrees: 20 };
        },
      }),
    },
  });
  await result.consumeStream();
  return { called, finish: await result.finishReason };
}

async function schema(model) {
  const result = await generateText({
    model,
    prompt: "Give me a person.",
    output: Output.object({ schema: z.object({ name: z.string(), age: z.number().int() }) }),
  });
  return result.output;
}

const seen = {};
for (const [name, provider] of Object.entries(providers)) {
  const model = provider.chatModel(process.env.MODEL);
  seen[name] = { streamed: await streamed(model), tools: await tools(model), schema: await schema(model) };
}
console.log(JSON.stringify(seen));
