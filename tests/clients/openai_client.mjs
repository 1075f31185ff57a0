// OpenAI's own client for Node against a server of the demo model: openai_client.mjs ADDRESS.

import assert from "node:assert/strict";
import OpenAI, { BadRequestError, NotFoundError } from "openai";

const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "none", maxRetries: 0 });
const prompt = "It is a truth universally acknowledged, that";

const models = await client.models.list();
assert.deepEqual(models.data.map((model) => model.id), ["austen"]);

const request = { model: "austen", prompt, max_tokens: 12, temperature: 0 };
const whole = await client.completions.create(request);
assert.equal(whole.usage.completion_tokens, 12);
let text = "";
for await (const event of await client.completions.create({ ...request, stream: true })) {
  text += event.choices[0]?.text ?? "";
}
assert.equal(text, whole.choices[0].text);

const messages = [{ role: "user", content: [{ type: "text", text: "How do you do?" }] }];
const chat = { model: "austen", messages, max_completion_tokens: 12, temperature: 0 };
const reply = await client.chat.completions.create(chat);
let said = "";
for await (const chunk of await client.chat.completions.create({ ...chat, stream: true })) {
  said += chunk.choices[0].delta.content ?? "";
}
assert.equal(said, reply.choices[0].message.content);

const packed = await client.embeddings.create({ model: "austen", input: "She was happy." });
assert.equal(packed.data[0].embedding.length, 256);

await assert.rejects(client.completions.create({ ...request, model: "davinci" }), NotFoundError);
await assert.rejects(client.completions.create({ ...request, n: 1000 }), BadRequestError);
console.log("openai for Node works");
