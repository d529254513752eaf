// OpenAI's Node client against a gateway, whose address is the first argument; prints what it saw as JSON.

import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });
const asked = { model: "m", messages: [{ role: "user", content: "What is 17 times 23?" }] };
const tools = [{ type: "function", function: { name: "time", parameters: { type: "object", properties: {} } } }];
const vote = { fathom: { strategy: "vote(stop=never)", width: 4 } };
const format = { type: "json_schema", json_schema: { name: "place", schema: { type: "object", required: ["city"] } } };
const create = (more) => client.chat.completions.create({ ...asked, seed: 1, ...more });

async function refusal(attempt) {
  try {
    await attempt();
    return null;
  } catch (error) {
    const { status, type, code, param } = error;
    return { kind: error.constructor.name, status, type, code, param };
  }
}

async function streamed(more) {
  const seen = { content: "", thought: "", finish: null, usage: null };
  for await (const chunk of await create({ ...more, stream: true, stream_options: { include_usage: true } })) {
    seen.usage = chunk.usage ?? seen.usage;
    for (const choice of chunk.choices) {
      seen.content += choice.delta.content ?? "";
      seen.thought += choice.delta.reasoning_content ?? "";
      seen.finish = choice.finish_reason ?? seen.finish;
    }
  }
  return seen;
}

const seen = {
  models: (await client.models.list()).data.map((model) => model.id),
  plain: await create({}),
  vote: await create(vote),
  streamed: await streamed({}),
  thinking: await streamed(vote),
  logprobs: (await create({ logprobs: true, top_logprobs: 1 })).choices[0].logprobs.content,
  calls: (await create({ tools, ...vote })).choices[0],
  accumulated: await client.chat.completions.stream({ ...asked, tools }).finalChatCompletion(),
  parsed: (await client.chat.completions.parse({ ...asked, response_format: format })).choices[0].message.parsed,
  response: (await client.responses.create({ model: "m", input: "hi" })).output_text,
  ran: await client.chat.completions
    .runTools({
      ...asked,
      tools: [{ ...tools[0], function: { ...tools[0].function, function: () => "noon", parse: JSON.parse } }],
    })
    .finalContent(),
  errors: {
    unknown: await refusal(() => create({ fathon: {} })),
    model: await refusal(() => create({ model: "gpt-9" })),
    strategy: await refusal(() => create({ tools, fathom: { strategy: "beam" } })),
  },
};
console.log(JSON.stringify(seen));
